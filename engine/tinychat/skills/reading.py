"""Questions that a short text in the prompt answers, or does not."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from engine.tinychat import words
from engine.tinychat.grammar import capitalized, expand
from engine.tinychat.part import Part
from engine.tinychat.skills.exchange import Exchange, only, pick

# property: (sentences, questions with the held-out one last, answer, pool of values)
_PROPERTIES: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, tuple[str, ...]]] = {
    "city": (
        ("{n} lives in {v}.", "{n} moved to {v} last year.", "The home of {n} is {v}."),
        (
            "where [does {n} live|is the home of {n}|is {n} living]",
            "[in which|in what|which] city [does {n} live|is {n}'s home|is home to {n}]",
            "what is the home of {n}",
        ),
        "{n} lives in {v}.",
        words.CITIES,
    ),
    "job": (
        ("{n} works as a {v}.", "{n} is a {v}.", "By trade {n} is a {v}."),
        (
            "what does {n} [do|work as|do for a living]",
            "what is {n}'s [job|trade|work|profession]",
            "[what|which] [work|job] [does {n} do|has {n}]",
            "as what does {n} work",
        ),
        "{n} is a {v}.",
        tuple(job for job in words.JOBS if job[0] not in "aeiou"),
    ),
    "pet": (
        ("{n} has a {v}.", "{n} owns a {v}.", "{n} keeps a {v} at home."),
        (
            "[what|which] [pet|animal] does {n} [have|own|keep]",
            "what [is {n}'s pet|does {n} own|kind of animal does {n} have]",
            "what is the pet of {n}",
        ),
        "{n} has a {v}.",
        words.ANIMALS,
    ),
    "age": (
        ("{n} is {v} years old.", "{n} turned {v} this year."),
        (
            "how old is {n}[| now| today]",
            "what is [{n}'s age|the age of {n}]",
            "[how many years old|of what age] is {n}",
            "what age has {n}",
        ),
        "{n} is {v} years old.",
        tuple(str(age) for age in range(5, 96)),
    ),
    "colour": (
        ("{n} likes {v} best.", "The favourite colour of {n} is {v}."),
        (
            "[what|which] colour does {n} like[| best| most]",
            "what is [{n}'s favourite|the favourite] colour[| of {n}]",
            "which colour does {n} prefer",
        ),
        "{n} likes {v}.",
        words.COLOURS,
    ),
    "price": (
        ("The {t} costs {v} euros.", "The price of the {t} is {v} euros."),
        (
            "how much [is|costs|does one pay for] the {t}",
            "what [does the {t} cost|is the {t}'s price|do I pay for the {t}]",
            "[price of the {t}|the {t} costs how much]",
            "what is the price of the {t}",
        ),
        "The {t} costs {v} euros.",
        tuple(str(price) for price in range(2, 100)),
    ),
    "code": (
        ("The {t} code is {v}.", "The code of the {t} is {v}."),
        (
            "[what is|what's|tell me|give me] the {t} code",
            "[the code|which code] [for|has|opens] the {t}",
            "what is the code of the {t}",
        ),
        "The {t} code is {v}.",
        (),
    ),
    "meeting": (
        ("The meeting with {n} is on {v}.", "On {v} there is a meeting with {n}."),
        (
            "when [is the meeting with|do I meet|do I see] {n}",
            "[what|which] day is the meeting with {n}",
            "[date of the|when is my|day of the] meeting with {n}",
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
    "[According to|From] this[| text]: {p} {q}",
    "[Context|Notes|Facts]: {p}\n\n{q}",
)
_SUMMARY = (
    "[summarise|summarize|sum up] [this|the text|this text|in one sentence]: {p}",
    "[give me|what is] the first sentence of[| this]: {p}",
    "{p}\n[Summarise this|In one sentence, please|Summary]",
    "the gist of it: {p}",
)
NOT_IN_TEXT = "The text does not say."
READ_IT = "I have read it. What would you like to know?"


@dataclass(frozen=True)
class Statement:
    """A sentence of a passage: what it says of whom."""

    kind: str
    subject: str
    value: str
    sentence: str

    def question(self, rng: random.Random, part: Part) -> str:
        """Return a question that this statement answers."""
        pattern = pick(rng, _PROPERTIES[self.kind][1], part)
        asked = pattern.replace("{n}", self.subject).replace("{t}", self.subject)
        return capitalized(asked) + "?"

    def answer(self) -> str:
        """Return the answer to the question."""
        slots = _PROPERTIES[self.kind][2].replace("{n}", self.subject).replace("{t}", self.subject)
        return slots.replace("{v}", self.value)


def _statement(kind: str, subject: str, rng: random.Random) -> Statement:
    sentences, _, _, values = _PROPERTIES[kind]
    value = rng.choice(values) if values else str(rng.randint(100, 99999))
    sentence = rng.choice(sentences).replace("{n}", subject).replace("{t}", subject)
    return Statement(kind, subject, value, sentence.replace("{v}", value))


def statements(rng: random.Random, count: int) -> list[Statement]:
    """Return at most `count` statements, no two about the same property of the same subject."""
    people = rng.sample(words.NAMES, min(len(words.NAMES), 3 + count // 4))
    pairs = [
        (kind, rng.choice(words.THINGS if kind in ("price", "code") else people))
        for kind in rng.choices(list(_PROPERTIES), k=count)
    ]
    return [_statement(kind, subject, rng) for kind, subject in dict.fromkeys(pairs)]


def joined(passage: list[Statement]) -> str:
    """Return the passage as text."""
    return " ".join(statement.sentence for statement in passage)


def unanswered(passage: list[Statement], rng: random.Random) -> Statement:
    """Return a statement that `passage` does not make, to be asked for."""
    said = {(one.kind, one.subject) for one in passage}
    people = [one.subject for one in passage if one.kind not in ("price", "code")]
    while True:
        kind = rng.choice(("city", "job", "pet", "age", "colour"))
        near = people and rng.random() < 0.5
        subject = rng.choice(people if near else words.NAMES)
        if (kind, subject) not in said:
            return Statement(kind, subject, "", "")


def reading(rng: random.Random, part: Part) -> Exchange:
    """Return a short text and a question about it, which the text may leave unanswered."""
    passage = statements(rng, rng.randint(1, 8))
    if rng.random() < 0.1:
        question = capitalized(pick(rng, _SUMMARY, part)).replace("{p}", joined(passage))
        return only("reading", question, passage[0].sentence)
    asked = rng.choice(passage)
    answer = asked.answer()
    if rng.random() < 0.12:
        asked, answer = unanswered(passage, rng), NOT_IN_TEXT
    question = asked.question(rng, part)
    frame = expand(rng.choice(_READING), rng)
    return only("reading", frame.replace("{p}", joined(passage)).replace("{q}", question), answer)


_AS_JSON = (
    "[Give|Return|Write|Extract|Put|Show] {k} as [JSON|a JSON object|json]: {p}",
    "{p} [Answer in|Reply in|As|Now as|Make it|Convert to] JSON with {k}.",
    "[JSON with|A JSON object with|In JSON,] {k}: {p}",
    "[Answer|Reply|Respond] [only |]with JSON of the form {f}: {p}",
    "{p}\n[Fill in|Complete|Use]: {f}",
    "Make JSON with {k} from this: {p}",
)


def as_json(rng: random.Random, part: Part) -> Exchange:
    """Return a request to put one to three statements about somebody into a JSON object."""
    name = rng.choice(words.NAMES)
    kinds = rng.sample(("city", "job", "pet", "age", "colour"), rng.choice((1, 1, 2, 3)))
    said = [_statement(kind, name, rng) for kind in kinds]
    values = {"name": name, **{one.kind: _typed(one) for one in said}}
    keys = ", ".join(["name", *kinds[:-1]]) + f" and {kinds[-1]}"
    form = json.dumps({key: 0 if key == "age" else "..." for key in values})
    asked = pick(rng, _AS_JSON, part).replace("{k}", keys).replace("{f}", form)
    rng.shuffle(said)
    return only("json", asked.replace("{p}", joined(said)), json.dumps(values))


def _typed(statement: Statement) -> str | int:
    return int(statement.value) if statement.kind == "age" else statement.value
