"""Whole dialogues, made from a seed: turns, system prompts, tool calls, things said earlier.

`dialogue(rng)` draws one; `dialogues(seed)` is the endless stream. The same seed gives the same
dialogues on every machine. No torch here, and no text from outside.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from engine.tinychat.dialogue import Dialogue
from engine.tinychat.system_prompts import neutral_system, system_prompt
from engine.tinychat.talks import earlier, lengthy, several, single
from engine.tinychat.tool_use import tool_use

Kind = Callable[[random.Random, bool], Dialogue]
_KINDS: tuple[tuple[int, Kind], ...] = (
    (56, single),
    (14, several),
    (9, neutral_system),
    (9, system_prompt),
    (6, earlier),
    (6, tool_use),
)


def dialogue(rng: random.Random, *, held_out: bool = False, long: bool = False) -> Dialogue:
    """Draw one dialogue; with `long`, mostly one of many turns."""
    if long and rng.random() < 0.6:
        return lengthy(rng, held_out)
    kind = rng.choices([kind for _, kind in _KINDS], [weight for weight, _ in _KINDS])[0]
    return kind(rng, held_out)


def dialogues(seed: int, *, held_out: bool = False) -> Iterator[Dialogue]:
    """Yield dialogues without end; equal seeds give equal dialogues."""
    rng = random.Random(seed)
    while True:
        yield dialogue(rng, held_out=held_out)
