"""An exchange: a question, the answer to learn, and every answer that would do.

A skill is a function of `(rng, held_out)`. With `held_out` it draws wordings, operands or topics
that training never sees, so that `evaluate` measures more than recall.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from engine.tinychat.grammar import expand


@dataclass(frozen=True)
class Exchange:
    """A question and its answer; `accepted` holds every answer counted as right."""

    skill: str
    question: str
    answer: str
    accepted: tuple[str, ...]


Skill = Callable[[random.Random, bool], Exchange]


def only(skill: str, question: str, answer: str) -> Exchange:
    """Return an exchange with one right answer."""
    return Exchange(skill, question, answer, (answer,))


def pick(rng: random.Random, patterns: tuple[str, ...], held_out: bool) -> str:
    """Draw a wording; the last pattern of a tuple is the held-out one."""
    return expand(patterns[-1] if held_out else rng.choice(patterns[:-1]), rng)
