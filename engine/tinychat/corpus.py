"""Whole dialogues, made from a seed: turns, system prompts, tool calls, things said earlier.

`dialogue(rng)` draws one; `dialogues(seed)` is the endless stream. The same seed gives the same
dialogues on every machine. No torch here, and no text from outside.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from engine.tinychat.dialogue import Dialogue
from engine.tinychat.part import Part
from engine.tinychat.system_prompts import neutral_system, system_prompt
from engine.tinychat.talks import earlier, lengthy, several, single
from engine.tinychat.tool_use import tool_use

Kind = Callable[[random.Random, Part], Dialogue]
_KINDS: tuple[tuple[int, Kind], ...] = (
    (54, single),
    (12, several),
    (8, neutral_system),
    (9, system_prompt),
    (6, earlier),
    (11, tool_use),
)


def dialogue(rng: random.Random, *, part: Part = Part.TRAINING, long: bool = False) -> Dialogue:
    """Draw one dialogue; with `long`, one of very many turns."""
    if long:
        return lengthy(rng)
    kind = rng.choices([kind for _, kind in _KINDS], [weight for weight, _ in _KINDS])[0]
    return kind(rng, part)


def dialogues(seed: int, *, part: Part = Part.TRAINING) -> Iterator[Dialogue]:
    """Yield dialogues without end; equal seeds give equal dialogues."""
    rng = random.Random(seed)
    while True:
        yield dialogue(rng, part=part)
