"""An exchange: a question, the answer to learn, and every answer that would do.

A skill is a function of `(rng, part)`. Outside of `Part.TRAINING` it draws wordings, operands or
topics that training never sees, so that `evaluate` measures more than recall.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from engine.tinychat.grammar import expand, kept_back
from engine.tinychat.part import Part


@dataclass(frozen=True)
class Exchange:
    """A question and its answer; `accepted` holds every answer counted as right."""

    skill: str
    question: str
    answer: str
    accepted: tuple[str, ...]


Skill = Callable[[random.Random, Part], Exchange]


def only(skill: str, question: str, answer: str) -> Exchange:
    """Return an exchange with one right answer."""
    return Exchange(skill, question, answer, (answer,))


def pick(rng: random.Random, patterns: tuple[str, ...], part: Part) -> str:
    """Draw a wording of `part`; the last pattern of a tuple is the unfamiliar one.

    A tenth of the wordings of the others is held out (`kept_back`).
    """
    if part is Part.UNFAMILIAR:
        return expand(patterns[-1], rng)
    kept = kept_back(patterns[:-1])
    if part is Part.HELD_OUT:
        return rng.choice(sorted(kept))
    while True:
        wording = expand(rng.choice(patterns[:-1]), rng)
        if wording not in kept:
            return wording
