"""Plain talks: one exchange or several, and answers that stand in an earlier turn."""

from __future__ import annotations

import random

from engine.tinychat import words
from engine.tinychat.dialogue import Dialogue, turns
from engine.tinychat.grammar import capitalized, expand, spoken
from engine.tinychat.skills import SKILLS, Exchange


def exchange(rng: random.Random, *, held_out: bool = False) -> Exchange:
    """Draw one exchange of any skill, in the proportions of training."""
    skill = rng.choices([skill for _, skill in SKILLS], [weight for weight, _ in SKILLS])[0]
    return skill(rng, held_out)


def talk(rng: random.Random, held_out: bool, count: int) -> Dialogue:
    """Return `count` unrelated exchanges; only the last may be held out."""
    before = [exchange(rng) for _ in range(count - 1)]
    last = exchange(rng, held_out=held_out)
    skill = last.skill if count == 1 else "several turns"
    return Dialogue(skill, turns([*before, last]), last.accepted)


def single(rng: random.Random, held_out: bool) -> Dialogue:
    """Return one question and its answer."""
    return talk(rng, held_out, 1)


def several(rng: random.Random, held_out: bool) -> Dialogue:
    """Return two to six unrelated exchanges."""
    return talk(rng, held_out, rng.randint(2, 6))


def lengthy(rng: random.Random, held_out: bool) -> Dialogue:
    """Return a long talk, so that late positions are trained too."""
    return talk(rng, held_out, rng.randint(8, 28))


def ask(rng: random.Random, patterns: tuple[str, ...], held_out: bool) -> str:
    """Return one wording as somebody might type it; the last pattern is held out."""
    pattern = patterns[-1] if held_out else rng.choice(patterns[:-1])
    return spoken(expand(pattern, rng), rng)


WHOSE = ("what is my name", "do you know my name", "who am I", "tell me how I am called")
_MY_NAME = ("my name is {n}", "I am {n}", "[hi|hello], I am {n}", "call me {n}", "I am called {n}")
_AGAIN = (
    "[say that again|repeat that|again please|once more|pardon|what did you say]",
    "repeat your last answer",
    "what was your last answer",
)


def earlier(rng: random.Random, held_out: bool) -> Dialogue:
    """Return a dialogue whose last answer stands in an earlier turn."""
    if rng.random() < 0.4:
        first = exchange(rng)
        question = ask(rng, _AGAIN, held_out)
        last = Exchange("", question, first.answer, (first.answer,))
        return Dialogue("earlier turns", turns([first, last]), last.accepted)
    name = rng.choice(words.NAMES) if rng.random() < 0.7 else capitalized(words.invented(rng))
    pattern = _MY_NAME[-1] if held_out else rng.choice(_MY_NAME[:-1])
    hello = capitalized(expand(pattern, rng).replace("{n}", name)) + "."
    answer = f"Your name is {name}."
    between = [exchange(rng) for _ in range(rng.randint(0, 3))]
    met = Exchange("", hello, f"Nice to meet you, {name}.", ())
    last = Exchange("", ask(rng, WHOSE, held_out), answer, (answer,))
    return Dialogue("earlier turns", turns([met, *between, last]), last.accepted)
