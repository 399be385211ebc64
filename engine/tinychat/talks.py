"""Plain talks: one exchange or several, and answers that stand in an earlier turn."""

from __future__ import annotations

import random

from engine.tinychat import words
from engine.tinychat.dialogue import Dialogue, turns
from engine.tinychat.grammar import capitalized, spoken
from engine.tinychat.part import Part
from engine.tinychat.skills import SKILLS, Exchange
from engine.tinychat.skills.exchange import only, pick
from engine.tinychat.skills.reading import (
    NOT_IN_TEXT,
    READ_IT,
    Statement,
    joined,
    statements,
    unanswered,
)

_SHORTEST, _LONGEST = 4600, 5400  # characters: few talks exceed a row of 2,048 tokens


def exchange(rng: random.Random, *, part: Part = Part.TRAINING) -> Exchange:
    """Draw one exchange of any skill, in the proportions of training."""
    skill = rng.choices([skill for _, skill in SKILLS], [weight for weight, _ in SKILLS])[0]
    return skill(rng, part)


def talk(rng: random.Random, part: Part, count: int) -> Dialogue:
    """Return `count` unrelated exchanges; only the last may be held out."""
    before = [exchange(rng) for _ in range(count - 1)]
    last = exchange(rng, part=part)
    skill = last.skill if count == 1 else "several turns"
    return Dialogue(skill, turns([*before, last]), last.accepted)


def single(rng: random.Random, part: Part) -> Dialogue:
    """Return one question and its answer."""
    return talk(rng, part, 1)


def several(rng: random.Random, part: Part) -> Dialogue:
    """Return two to six unrelated exchanges."""
    return talk(rng, part, rng.randint(2, 6))


def ask(rng: random.Random, patterns: tuple[str, ...], part: Part) -> str:
    """Return one wording as somebody might type it; the last pattern is held out."""
    return spoken(pick(rng, patterns, part), rng, part)


WHOSE = (
    "[what is|what's|tell me|say] my name",
    "[do you know|do you remember|have you noted] my name",
    "[who am I|how am I called|what am I called|remember my name]",
    "tell me how I am called",
)
_MY_NAME = (
    "[my name is|I am|call me|I'm|this is|here is] {n}",
    "[hi|hello|hey|good day], [I am|my name is|I'm|it is] {n}",
    "[they call me|people call me|the name is|you can call me] {n}",
    "I am called {n}",
)
_AGAIN = (
    "[say that again|repeat that|again please|once more|pardon|what did you say]",
    "[repeat|say again|give me again] your [last|previous] answer",
    "[what was that|come again|sorry, what|tell me again|I did not hear you|one more time]",
    "what was your last answer",
)
_READ = (
    "[Read|Remember|Note] this: {p}",
    "[Here is|This is] a text: {p}",
    "[Text|Notes|Facts]: {p}",
    "Please keep in mind: {p}",
)


def _met(rng: random.Random, part: Part) -> tuple[Exchange, str]:
    name = rng.choice(words.NAMES) if rng.random() < 0.7 else capitalized(words.invented(rng))
    hello = capitalized(pick(rng, _MY_NAME, part).replace("{n}", name)) + "."
    return Exchange("", hello, f"Nice to meet you, {name}.", ()), f"Your name is {name}."


def earlier(rng: random.Random, part: Part) -> Dialogue:
    """Return a dialogue whose last answer stands in an earlier turn."""
    if rng.random() < 0.4:
        first = exchange(rng)
        question = ask(rng, _AGAIN, part)
        last = Exchange("", question, first.answer, (first.answer,))
        return Dialogue("earlier turns", turns([first, last]), last.accepted)
    met, answer = _met(rng, part)
    between = [exchange(rng) for _ in range(rng.randint(0, 4))]
    last = Exchange("", ask(rng, WHOSE, part), answer, (answer,))
    return Dialogue("earlier turns", turns([met, *between, last]), last.accepted)


def _read(passage: list[Statement], rng: random.Random, part: Part) -> Exchange:
    question = pick(rng, _READ, part).replace("{p}", joined(passage))
    return Exchange("", question, READ_IT, (READ_IT,))


def _asked(one: Statement, rng: random.Random, part: Part) -> Exchange:
    answer = one.answer() if one.value else NOT_IN_TEXT
    return only("", one.question(rng, part), answer)


def lengthy(rng: random.Random) -> Dialogue:
    """Return a talk of up to some 2,000 tokens that comes back to what was said long before."""
    met, name = _met(rng, Part.TRAINING)
    passage = statements(rng, rng.randint(4, 40))
    said = [met, _read(passage, rng, Part.TRAINING)]
    rng.shuffle(said)
    wanted, length = rng.randint(_SHORTEST, _LONGEST), 0
    while length < wanted:
        said.append(_next(passage, name, rng))
        length += len(said[-1].question) + len(said[-1].answer)
    return Dialogue("several turns", turns(said), said[-1].accepted)


def _next(passage: list[Statement], name: str, rng: random.Random) -> Exchange:
    draw = rng.random()
    if draw < 0.03:
        return only("", ask(rng, WHOSE, Part.TRAINING), name)
    if draw < 0.45:
        about = unanswered(passage, rng) if rng.random() < 0.1 else rng.choice(passage)
        return _asked(about, rng, Part.TRAINING)
    return exchange(rng)


def distant(rng: random.Random, part: Part, between: int) -> Dialogue:
    """Return a passage, at least `between` characters of other talk, and a question about it."""
    passage = statements(rng, rng.randint(4, 12))
    said, length = [_read(passage, rng, part)], 0
    while length < between:
        said.append(exchange(rng))
        length += len(said[-1].question) + len(said[-1].answer)
    asked = rng.choice(passage)
    last = _asked(asked, rng, part)
    return Dialogue("distant reading", turns([*said, last]), last.accepted, evidence=asked.sentence)
