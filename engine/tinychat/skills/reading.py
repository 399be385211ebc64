"""Questions that a short text in the prompt answers, or does not."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from engine.tinychat import words
from engine.tinychat.grammar import capitalized, expand
from engine.tinychat.skills.exchange import Exchange, only, pick

# property: (sentences, questions with the held-out one last, answer, pool of values)
_PROPERTIES: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, tuple[str, ...]]] = {
    "city": (
        ("{n} lives in {v}.", "{n} moved to {v} last year.", "The home of {n} is {v}."),
        ("where does {n} live", "in which city does {n} live", "what is the home of {n}"),
        "{n} lives in {v}.",
        words.CITIES,
    ),
    "job": (
        ("{n} works as a {v}.", "{n} is a {v}.", "By trade {n} is a {v}."),
        ("what does {n} do", "what is {n}'s job", "what work does {n} do", "as what does {n} work"),
        "{n} is a {v}.",
        tuple(job for job in words.JOBS if job[0] not in "aeiou"),
    ),
    "pet": (
        ("{n} has a {v}.", "{n} owns a {v}.", "{n} keeps a {v} at home."),
        ("what [pet|animal] does {n} have", "which animal does {n} own", "what is the pet of {n}"),
        "{n} has a {v}.",
        words.ANIMALS,
    ),
    "age": (
        ("{n} is {v} years old.", "{n} turned {v} this year."),
        ("how old is {n}", "what is {n}'s age", "what age has {n}"),
        "{n} is {v} years old.",
        tuple(str(age) for age in range(5, 96)),
    ),
    "colour": (
        ("{n} likes {v} best.", "The favourite colour of {n} is {v}."),
        (
            "what colour does {n} like",
            "what is {n}'s favourite colour",
            "which colour does {n} prefer",
        ),
        "{n} likes {v}.",
        words.COLOURS,
    ),
    "price": (
        ("The {t} costs {v} euros.", "The price of the {t} is {v} euros."),
        (
            "how much [is|does] the {t}[| cost]",
            "what does the {t} cost",
            "what is the price of the {t}",
        ),
        "The {t} costs {v} euros.",
        tuple(str(price) for price in range(2, 100)),
    ),
    "code": (
        ("The {t} code is {v}.", "The code of the {t} is {v}."),
        ("what is the {t} code", "tell me the {t} code", "what is the code of the {t}"),
        "The {t} code is {v}.",
        (),
    ),
    "meeting": (
        ("The meeting with {n} is on {v}.", "On {v} there is a meeting with {n}."),
        (
            "when is the meeting with {n}",
            "when do I meet {n}",
            "on which day is the meeting with {n}",
        ),
        "The meeting with {n} is on {v}.",
        words.DAYS,
    ),
}
_READING = (
    "{p} {q}",
    "{p}\n{q}",
    "[Text|Passage|Read this]: {p}\n[Question|Q|Now]: {q}",
    "{q}\n\n{p}",
    "Here is a text. {p} {q}",
)
NOT_IN_TEXT = "The text does not say."


@dataclass(frozen=True)
class _Statement:
    kind: str
    subject: str
    value: str
    sentence: str

    def question(self, rng: random.Random, held_out: bool) -> str:
        pattern = pick(rng, _PROPERTIES[self.kind][1], held_out)
        return pattern.replace("{n}", self.subject).replace("{t}", self.subject)

    def answer(self) -> str:
        slots = _PROPERTIES[self.kind][2].replace("{n}", self.subject).replace("{t}", self.subject)
        return slots.replace("{v}", self.value)


def _statement(kind: str, subject: str, rng: random.Random) -> _Statement:
    sentences, _, _, values = _PROPERTIES[kind]
    value = rng.choice(values) if values else str(rng.randint(100, 99999))
    sentence = rng.choice(sentences).replace("{n}", subject).replace("{t}", subject)
    return _Statement(kind, subject, value, sentence.replace("{v}", value))


def _passage(rng: random.Random) -> list[_Statement]:
    count = rng.randint(1, 5)
    people = rng.sample(words.NAMES, 3)
    pairs = [
        (kind, rng.choice(words.THINGS if kind in ("price", "code") else people))
        for kind in rng.choices(list(_PROPERTIES), k=count)
    ]
    return [_statement(kind, subject, rng) for kind, subject in dict.fromkeys(pairs)]


def reading(rng: random.Random, held_out: bool) -> Exchange:
    """Return a short text and a question about it, which the text may leave unanswered."""
    passage = _passage(rng)
    asked = rng.choice(passage)
    answer = asked.answer()
    if rng.random() < 0.12:
        stranger = rng.choice(
            [name for name in words.NAMES if all(name != s.subject for s in passage)]
        )
        asked = _Statement(rng.choice(("city", "job", "pet", "age", "colour")), stranger, "", "")
        answer = NOT_IN_TEXT
    question = capitalized(asked.question(rng, held_out)) + "?"
    text = " ".join(statement.sentence for statement in passage)
    frame = expand(rng.choice(_READING), rng)
    return only("reading", frame.replace("{p}", text).replace("{q}", question), answer)


_AS_JSON = (
    "[Give|Return|Write|Extract] name and {k} as JSON: {p}",
    "{p} [Answer in|Reply in|As] JSON with name and {k}.",
    "Make JSON with name and {k} from this: {p}",
)


def as_json(rng: random.Random, held_out: bool) -> Exchange:
    """Return a request to put one statement into a JSON object."""
    kind = rng.choice(("city", "job", "pet", "age", "colour"))
    statement = _statement(kind, rng.choice(words.NAMES), rng)
    value: str | int = int(statement.value) if kind == "age" else statement.value
    question = pick(rng, _AS_JSON, held_out).replace("{k}", kind)
    answer = json.dumps({"name": statement.subject, kind: value})
    return only("json", question.replace("{p}", statement.sentence), answer)
