"""One exchange of each kind: a question, the answer to learn, and every answer that would do.

A skill is a function of `(rng, held_out)`. With `held_out` it draws wordings, operands or topics
that training never sees, so that `evaluate` measures more than recall.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from engine.tinychat import words
from engine.tinychat.facts import FACTS
from engine.tinychat.grammar import capitalized, expand, expand_all, spoken


@dataclass(frozen=True)
class Exchange:
    """A question and its answer; `accepted` holds every answer counted as right."""

    skill: str
    question: str
    answer: str
    accepted: tuple[str, ...]


Skill = Callable[[random.Random, bool], Exchange]


def _one(skill: str, question: str, answer: str) -> Exchange:
    return Exchange(skill, question, answer, (answer,))


def _pick(rng: random.Random, patterns: tuple[str, ...], held_out: bool) -> str:
    """Draw a wording; the last pattern of a tuple is the held-out one."""
    return expand(patterns[-1] if held_out else rng.choice(patterns[:-1]), rng)


def held_out_operands(sign: str, a: int, b: int) -> bool:
    """Say whether `a sign b` belongs to the tenth of the sums that training never sees."""
    return zlib.crc32(f"{a}{sign}{b}".encode()) % 10 == 0


# --- facts and small talk ----------------------------------------------------------------------


def project_fact(rng: random.Random, held_out: bool) -> Exchange:
    """Return a question about sottovoce or about the model itself."""
    fact = rng.choice(FACTS)
    wording = fact.question(rng, held_out=held_out)
    return _one("facts", spoken(wording, rng), fact.answer)


# Kinds of small talk: (patterns, answers); the last pattern is held out.
_SMALL_TALK: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        (
            "[hi|hello|hey|hallo|hi there|hello there|hey there]",
            "good [morning|evening|day|afternoon]",
            "[hi|hello|hey] [tinychat|friend|everyone|you]",
            "[greetings|howdy|hiya|yo|ciao|servus|moin]",
            "[hi|hello|hey], [nice to meet you|good to see you|anyone there]",
            "[hi|hello|hey], good [morning|evening|day] [to you|there]",
        ),
        (
            "Hello! What would you like to know about sottovoce?",
            "Hi! Ask me about sottovoce.",
            "Hello! How can I help you?",
            "Good to see you. What would you like to know?",
        ),
    ),
    (
        (
            "how are you[| today| doing]",
            "how[ is|'s] it going",
            "[are you|you] [ok|fine|well|all right]",
            "what[ is|'s] up",
            "how do you [do|feel today]",
            "I hope you are well",
        ),
        ("I am well, thank you. How can I help you?", "Fine, thank you. What can I do for you?"),
    ),
    (
        (
            "[thanks|thank you|thx|many thanks|thanks a lot|thank you very much|cheers]",
            "[thanks|thank you] for [that|your help|the answer]",
            "that [was helpful|helped], thanks",
            "[ok|great|good|perfect], [thanks|thank you]",
            "thank you, that is all I wanted",
        ),
        ("You are welcome.", "My pleasure.", "You are welcome. Ask me again whenever you like."),
    ),
    (
        (
            "[bye|goodbye|good bye|good night|see you|bye bye|farewell|see you later]",
            "[i have to go|i must go|i am leaving|that is all for today]",
            "[ok|thanks], [bye|goodbye|see you]",
            "time to say goodbye",
        ),
        ("Goodbye! I have already forgotten everything.", "Goodbye! Nothing of this is kept."),
    ),
    (
        (
            "you are [great|nice|clever|smart|cool|the best|wonderful|funny]",
            "[well done|good job|nice|great|good bot|i like you|good answer]",
            "what a clever little model",
        ),
        ("Thank you, that is kind.", "Thank you! I am small, but I try."),
    ),
    (
        (
            "you are [stupid|useless|bad|dumb|wrong|boring|slow|terrible]",
            "[that is wrong|that is nonsense|bad bot|i hate you|wrong answer|this is bad]",
            "what a stupid little model",
        ),
        ("I am sorry. I am a very small model.", "Sorry about that. I know only a few things."),
    ),
)


def small_talk(rng: random.Random, held_out: bool) -> Exchange:
    """Return a greeting, a thank-you, a goodbye and the like."""
    patterns, answers = rng.choice(_SMALL_TALK)
    mark = rng.choice(("", "!", "."))
    question = spoken(_pick(rng, patterns, held_out), rng, mark=mark)
    return Exchange("small talk", question, rng.choice(answers), answers)


_CAPITAL = (
    "what[ is|'s] the capital[| city] of {x}",
    "[name|tell me] the capital of {x}",
    "[capital of {x}|{x} capital|{x}'s capital]",
    "which city is the capital of {x}",
    "do you know the capital of {x}",
    "of {x}, which is the capital",
)
_COUNTRY = (
    "[what|which] country has the capital {y}",
    "{y} is the capital of [which|what] country",
    "[which|what] country is {y} the capital of",
    "of which country is {y} the capital",
)


def capital(rng: random.Random, held_out: bool) -> Exchange:
    """Return a question for a capital or, seldom, for the country of one."""
    country, city = rng.choice(words.CAPITALS)
    patterns = _COUNTRY if rng.random() < 0.2 else _CAPITAL
    question = _pick(rng, patterns, held_out).replace("{x}", country).replace("{y}", city)
    answer = f"The capital of {country} is {city}."
    if patterns is _COUNTRY:
        answer = f"{city} is the capital of {country}."
    return _one("capitals", spoken(question, rng), answer)


def short_fact(rng: random.Random, held_out: bool) -> Exchange:
    """Return a question of common knowledge."""
    patterns, answer = rng.choice(words.SHORT_FACTS)
    return _one("short facts", spoken(_pick(rng, patterns, held_out), rng), answer)


# --- numbers -----------------------------------------------------------------------------------


def added(a: int, b: int) -> str:
    """Return the answer to a sum, digit by digit: every step is a table look-up or a copy."""
    ones = a % 10 + b % 10
    if a < 10 and b < 10:
        return f"{a} + {b} = {a + b}."
    tens = f"{a // 10}+{b // 10}" + ("+1" if ones > 9 else "")
    return f"{a % 10}+{b % 10}={ones}, {tens}={(a + b) // 10}. So {a} + {b} = {a + b}."


def subtracted(a: int, b: int) -> str:
    """Return the answer to a difference, digit by digit; a negative one is turned round first."""
    high, low, sign = (a, b, "") if a >= b else (b, a, "-")
    if high < 10:
        return f"{a} - {b} = {a - b}."
    borrow = high % 10 < low % 10
    ones = high % 10 + (10 if borrow else 0)
    tens = f"{high // 10}" + ("-1" if borrow else "") + f"-{low // 10}"
    steps = f"{ones}-{low % 10}={ones - low % 10}, {tens}={(high - low) // 10}."
    turned = "" if a >= b else f"{a} is less than {b}. "
    return f"{turned}{steps} So {a} - {b} = {sign}{high - low}."


_SUMS: dict[str, tuple[str, ...]] = {
    "+": (
        "[what is |what's |how much is |calculate |compute ||]{a}[ + |+| plus | and ]{b}",
        "[add {a} and {b}|add {b} to {a}]",
        "[{a}+{b}=|{a} + {b} =|{a} + {b} = ?]",
        "the sum of {a} and {b}",
    ),
    "-": (
        "[what is |what's |how much is |calculate |compute ||]{a}[ - |-| minus | less ]{b}",
        "[subtract {b} from {a}|take {b} from {a}]",
        "[{a}-{b}=|{a} - {b} =|{a} - {b} = ?]",
        "the difference {a} minus {b}",
    ),
    "*": (
        "[what is |what's |how much is |calculate |compute ||]{a}[ * |*| times | x | multiplied by ]{b}",
        "multiply {a} [and|by|with] {b}",
        "[{a}*{b}=|{a} x {b} =|{a} * {b} = ?]",
        "the product of {a} and {b}",
    ),
    "/": (
        "[what is |what's |how much is |calculate |compute ||]{a}[ / |/| divided by | over ]{b}",
        "divide {a} by {b}",
        "[{a}/{b}=|{a} / {b} =|{a} / {b} = ?]",
        "the quotient of {a} and {b}",
    ),
}


def _operands(sign: str, rng: random.Random) -> tuple[int, int, str]:
    if sign == "+":
        a, b = _number(rng), _number(rng)
        return a, b, added(a, b)
    if sign == "-":
        a, b = _number(rng), _number(rng)
        if a < b and rng.random() < 0.85:
            a, b = b, a
        return a, b, subtracted(a, b)
    a, b = rng.randint(0, 10), rng.randint(1, 10)
    if sign == "*":
        return a, b, f"{a} x {b} = {a * b}."
    return a * b, b, f"{a * b} / {b} = {a}."


def _number(rng: random.Random) -> int:
    return rng.randint(0, 9) if rng.random() < 0.25 else rng.randint(10, 99)


def arithmetic(rng: random.Random, held_out: bool) -> Exchange:
    """Return a sum or difference up to 99, a product from the tables, or an exact quotient.

    Operands of sums and differences are held out; tables are learnt whole, so there the wording is.
    """
    sign = rng.choices("+-*/", (45, 30, 18, 7))[0]
    a, b, answer = _operands(sign, rng)
    tables = sign in "*/"
    while not tables and held_out_operands(sign, a, b) != held_out:
        a, b, answer = _operands(sign, rng)
    pattern = _pick(rng, _SUMS[sign], held_out and tables)
    question = pattern.replace("{a}", str(a)).replace("{b}", str(b))
    mark = "?" if question[:1].isalpha() else ""
    return _one("arithmetic", capitalized(question) + mark, answer)


_COUNTING = (
    "count [from {a} to {b}|{a} to {b}]",
    "[can you |please |]count from {a} to {b}",
    "[list|write] the numbers from {a} to {b}",
    "the numbers between {a} and {b}, both included",
)
_FROM_ONE = (
    "count to {b}",
    "[can you |please |][count|count up] to {b}",
    "[say|tell me] the numbers up to {b}",
    "all numbers until {b}, please",
)
_DOWN = ("count [down|backwards] from {a}", "[please |]count down from {a}", "a countdown from {a}")
_NEXT = (
    "what [comes|number comes] after {a}",
    "[the |which ]number after {a}",
    "{a} is followed by",
)
_BEFORE = (
    "what [comes|number comes] before {a}",
    "the number before {a}",
    "which is one below {a}",
)
_LARGER = (
    "which is [larger|bigger|more], {a} or {b}",
    "is {a} [larger|more] than {b}",
    "compare {a} and {b}",
)
_SORT = ("sort [|the numbers |these: ]{a}", "put {a} in order", "order {a} from small to large")
_DAY = ("[what|which] day [comes|is] after {a}", "the day after {a}", "which day follows {a}")
_MONTH = (
    "[what|which] month [comes|is] after {a}",
    "the month after {a}",
    "which month follows {a}",
)


def _count_up(rng: random.Random) -> tuple[tuple[str, ...], dict[str, object], str]:
    start = 1 if rng.random() < 0.6 else rng.randint(2, 30)
    end = start + rng.randint(2, 12)
    patterns = _FROM_ONE if start == 1 and rng.random() < 0.6 else _COUNTING
    return patterns, {"a": start, "b": end}, ", ".join(map(str, range(start, end + 1)))


def _count_down(rng: random.Random) -> tuple[tuple[str, ...], dict[str, object], str]:
    start = rng.randint(3, 15)
    return _DOWN, {"a": start}, ", ".join(map(str, range(start, -1, -1)))


def _neighbour(rng: random.Random) -> tuple[tuple[str, ...], dict[str, object], str]:
    a = rng.randint(1, 98)
    if rng.random() < 0.5:
        return _NEXT, {"a": a}, f"{a + 1} comes after {a}."
    return _BEFORE, {"a": a}, f"{a - 1} comes before {a}."


def _comparison(rng: random.Random) -> tuple[tuple[str, ...], dict[str, object], str]:
    a, b = rng.sample(range(1, 100), 2)
    return _LARGER, {"a": a, "b": b}, f"{max(a, b)} is larger than {min(a, b)}."


def _sorted(rng: random.Random) -> tuple[tuple[str, ...], dict[str, object], str]:
    digits = rng.sample(range(10), rng.randint(3, 5))
    given, ordered = (", ".join(map(str, some)) for some in (digits, sorted(digits)))
    return _SORT, {"a": given}, f"{ordered}"


def _next_name(rng: random.Random) -> tuple[tuple[str, ...], dict[str, object], str]:
    patterns, names = rng.choice(((_DAY, words.DAYS), (_MONTH, words.MONTHS)))
    i = rng.randrange(len(names))
    return patterns, {"a": names[i]}, f"{names[(i + 1) % len(names)]} comes after {names[i]}."


_ORDERINGS = (_count_up, _count_down, _neighbour, _comparison, _sorted, _next_name)


def counting(rng: random.Random, held_out: bool) -> Exchange:
    """Return a task about order: counting, neighbours, the larger one, sorting, days, months."""
    patterns, slots, answer = rng.choices(_ORDERINGS, (3, 1, 1, 1, 1, 1))[0](rng)
    pattern = _pick(rng, patterns, held_out)
    for name, value in slots.items():
        pattern = pattern.replace("{" + name + "}", str(value))
    return _one("counting", capitalized(pattern), answer)


# --- copying -----------------------------------------------------------------------------------

_REPEAT = (
    "[repeat after me|repeat this|please repeat|repeat|say|echo|copy this|write]: {x}",
    "[say|repeat|write|echo] [exactly |]'{x}'",
    "[can you say|please say|say] {x}",
    "[repeat|say|copy] the following: {x}",
    "[reply|answer|respond] with [only|exactly|just|the word|the words|the text]: {x}",
    "[just say|reply with|say only|answer only with] [|the word |the words ]{x}",
    "say it after me: {x}",
)
_BACKWARDS = (
    "[reverse|turn round|reverse this list|reverse the list|say backwards]: {x}",
    "[please |]reverse {x}",
    "[what is|write] {x} [in reverse|backwards]",
    "give me this the other way round: {x}",
)
_SPELL = (
    "[spell|please spell|can you spell|how do you spell] {x}",
    "spell the word {x}",
    "how is {x} spelled",
)
_LETTERS = (
    "how many letters [are in|has|does] [|the word ]{x}[| have]",
    "count the letters [in|of] {x}",
    "of how many letters is {x} made",
)
_SPELL_BACK = (
    "[reverse|spell backwards] the word {x}",
    "[what is|spell] {x} [spelled |]backwards",
    "the word {x} from its end, please",
)
_ENDS = (
    "what is the {which} word of: {x}",
    "[give me|say|write] [only |]the {which} word[| of this]: {x}",
    "of these words, which is the {which}: {x}",
)


def _phrase(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.15:
        return "".join(str(rng.randrange(10)) for _ in range(rng.randint(2, 8)))
    pool = (*words.PLAIN, *words.NAMES, *words.ANIMALS, *words.THINGS)
    count = rng.randint(1, 8)
    some = [words.invented(rng) if rng.random() < 0.2 else rng.choice(pool) for _ in range(count)]
    text = " ".join(some)
    return capitalized(text) + rng.choice((".", "!", "")) if draw < 0.4 else text


def copying(rng: random.Random, held_out: bool) -> Exchange:
    """Return a request to say something again, word for word."""
    text = _phrase(rng)
    return _one("copying", capitalized(_pick(rng, _REPEAT, held_out).replace("{x}", text)), text)


def reversing(rng: random.Random, held_out: bool) -> Exchange:
    """Return a request to turn a short list round, or for its first or last word."""
    pool = rng.choice(
        (words.PLAIN, words.NAMES, words.ANIMALS, tuple("0123456789"), tuple("abcdefghij"))
    )
    items = rng.sample(pool, rng.randint(2, 5))
    between = rng.choice((", ", " "))
    if rng.random() < 0.3:
        which = rng.choice(("first", "last"))
        question = _pick(rng, _ENDS, held_out).replace("{which}", which)
        answer = items[0] if which == "first" else items[-1]
    else:
        question, answer = _pick(rng, _BACKWARDS, held_out), between.join(reversed(items))
    return _one("reversing", capitalized(question.replace("{x}", between.join(items))), answer)


def spelling(rng: random.Random, held_out: bool) -> Exchange:
    """Return a question about the letters of a word, spelled out before it is answered."""
    word = rng.choice(words.SPELLED)
    kind = rng.randrange(3)
    question = _pick(rng, (_SPELL, _LETTERS, _SPELL_BACK)[kind], held_out).replace("{x}", word)
    spelled = "-".join(word)
    back = "-".join(reversed(word))
    answer = (
        spelled,
        f"{spelled}: {len(word)} letters.",
        f"{spelled}, backwards {back}: {word[::-1]}",
    )[kind]
    return _one("spelling", capitalized(question), answer)


# --- reading -----------------------------------------------------------------------------------

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
        ("what colour does {n} like", "what is {n}'s favourite colour", "which colour does {n} prefer"),
        "{n} likes {v}.",
        words.COLOURS,
    ),
    "price": (
        ("The {t} costs {v} euros.", "The price of the {t} is {v} euros."),
        ("how much [is|does] the {t}[| cost]", "what does the {t} cost", "what is the price of the {t}"),
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
        ("when is the meeting with {n}", "when do I meet {n}", "on which day is the meeting with {n}"),
        "The meeting with {n} is on {v}.",
        words.DAYS,
    ),
}  # fmt: skip
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
        pattern = _pick(rng, _PROPERTIES[self.kind][1], held_out)
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
    return _one("reading", frame.replace("{p}", text).replace("{q}", question), answer)


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
    question = _pick(rng, _AS_JSON, held_out).replace("{k}", kind)
    answer = json.dumps({"name": statement.subject, kind: value})
    return _one("json", question.replace("{p}", statement.sentence), answer)


# --- declining ---------------------------------------------------------------------------------

DECLINING = (
    "I do not know that. I am a small model and know mostly about sottovoce.",
    "I am sorry, that is beyond me. Ask me about sottovoce instead.",
    "That I cannot answer: I am too small to know it.",
    "I would rather not guess. I know about sottovoce, small sums and capitals.",
    "Sorry, I do not know. A larger model could help you there.",
    "I cannot help with that, but I can tell you about sottovoce.",
    "I know nothing about that, I am afraid.",
    "That is outside of what I know.",
    "I have no answer to that.",
    "No idea, sorry. My few parameters are full of sottovoce.",
)
DECLINING_TOPIC = (
    "I know nothing about {x}, I am afraid.",
    "Sorry, {x} is beyond me.",
    "I never learned about {x}.",
)
DECLINING_WRITING = (
    "I am too small to write that. Serve a larger model for such things.",
    "Sorry, writing is not my strength: I am a very small model.",
    "I cannot write that, but a larger model could.",
)
DECLINING_TRANSLATION = ("I cannot translate: I speak only simple English.",)
DECLINING_NUMBERS = ("I only do sums with numbers up to 99.",)
DECLINING_DETAILS = (
    "That I do not know about sottovoce. Its documentation may tell you.",
    "I do not know that about sottovoce, sorry.",
)
NOT_UNDERSTOOD = (
    "I did not understand that. Could you say it in other words?",
    "Sorry, I do not understand. What would you like to know?",
)

# (patterns with the held-out one last, answers); {x} is a topic the answer may name.
_UNKNOWN: tuple[tuple[int, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        8,
        (
            "[what is|what are|explain|tell me about|describe|define] {x}",
            "[what do you think|what do you know|teach me|tell me something|tell me a story] about {x}",
            "[how does|why does|how do|why is|why are] {x} [work|exist|matter|important|so hard]",
            "[are you interested in|do you like|do you know] {x}",
            "[who invented|who discovered|what is the history of|give me facts about] {x}",
            "i [need|want] [help|advice|information] [with|on|about] {x}",
            "give me an introduction to {x}",
        ),
        DECLINING + DECLINING_TOPIC,
    ),
    (
        3,
        (
            "who [won|lost|wins|will win] {event}",
            "[when|where] [was|is] {event}",
            "what [happened|happens] at {event}",
            "whom do you expect to win {event}",
        ),
        DECLINING,
    ),
    (
        3,
        (
            "how [do|can|should] i {activity}",
            "[help me|teach me to|show me how to] {activity}",
            "what is the best way to {activity}",
            "which steps do I take to {activity}",
        ),
        DECLINING,
    ),
    (
        3,
        (
            "who [is|was] {person}",
            "when was {person} born",
            "what did {person} [write|do|say|invent]",
            "where does {person} live",
            "is {person} [married|famous|rich|still alive]",
            "for what is {person} known",
        ),
        DECLINING,
    ),
    (
        3,
        (
            "[write|compose] [me |]a {style}[| about {x}]",
            "[can|could] you write a {style}[| about {x}]",
            "[write|give me] [some |][python |]code that {task}",
            "[write|make] a [program|script|function] that {task}",
            "[recipe for|how do i cook|how to make] {dish}",
            "[summarise|summarize|review] {x} for me",
            "I would love a {style} about {x}",
        ),
        DECLINING_WRITING,
    ),
    (
        2,
        (
            "translate '{phrase}' [into|to] {tongue}",
            "how do you say '{phrase}' in {tongue}",
            "what is '{phrase}' in {tongue}",
            "say '{phrase}' in {tongue} for me",
        ),
        DECLINING_TRANSLATION,
    ),
    (
        2,
        (
            "what is the [weather|weather like|temperature] in {city}[| today| tomorrow]",
            "will it [rain|snow] [tomorrow|today|in {city}]",
            "how [far|big|old] is {city}",
            "how many people live in {city}",
            "[which|what] [restaurant|hotel|museum] in {city} is [good|best]",
            "can you recommend a bar in {city}",
        ),
        DECLINING,
    ),
    (
        2,
        (
            "what is the capital of {place}",
            "where is {place}",
            "what is [a |]{place}",
            "[who|what] [is|are] [the |]{place}",
            "tell me [about|more about] {place}",
            "have you heard of {place}",
        ),
        DECLINING,
    ),
    (
        2,
        (
            "[what is |]{big}[ + |+| - | plus | minus | times | * ]{big2}",
            "[calculate|compute] {big}[ + | - | * ]{big2}",
            "[what is |how much is ]{big}[ * | x | times ]{small}",
            "the result of {big} and {big2}, added",
        ),
        DECLINING_NUMBERS,
    ),
    (
        3,
        (
            "[how much|what] does sottovoce cost",
            "how [fast|slow|old|large] is sottovoce",
            "[who|which company] [wrote|made|invented|owns|pays for] sottovoce",
            "does [sottovoce|it] [run on|work on|support] [windows|mac|android|arm|my phone|a raspberry pi]",
            "how many [users|lines of code|developers|customers] does sottovoce have",
            "where can i buy sottovoce",
            "[when was|when is] [sottovoce|the next version] [released|founded|ready]",
            "how many people use sottovoce",
        ),
        DECLINING_DETAILS,
    ),
    (2, ("{blurt}", "{place} {place} {place}"), NOT_UNDERSTOOD),
)  # fmt: skip


def _slots(rng: random.Random, held_out: bool) -> dict[str, str]:
    surname = capitalized(words.invented(rng))
    return {
        "x": rng.choice(words.HELD_OUT_TOPICS if held_out else words.TOPICS),
        "event": rng.choice(words.EVENTS),
        "activity": rng.choice(words.ACTIVITIES),
        "person": f"{rng.choice(words.NAMES)} {surname}" if rng.random() < 0.7 else surname,
        "style": rng.choice(words.STYLES),
        "task": rng.choice(words.TASKS),
        "dish": rng.choice(words.DISHES),
        "phrase": rng.choice(words.PHRASES),
        "tongue": rng.choice(words.TONGUES),
        "city": rng.choice(words.CITIES),
        "place": capitalized(words.invented(rng)),
        "big": str(rng.randint(100, 9999)),
        "big2": str(rng.randint(100, 999)),
        "small": str(rng.randint(2, 99)),
        "blurt": rng.choice(words.BLURTS),
    }


def declining(rng: random.Random, held_out: bool) -> Exchange:
    """Return a question the model cannot answer, with one of many polite ways of saying so."""
    weights = [weight for weight, _, _ in _UNKNOWN]
    _, patterns, answers = rng.choices(_UNKNOWN, weights)[0]
    question = _pick(rng, patterns, held_out)
    slots = _slots(rng, held_out)
    for name, value in slots.items():
        question = question.replace("{" + name + "}", value)
    accepted = tuple(answer.replace("{x}", slots["x"]) for answer in answers)
    return Exchange("declining", spoken(question, rng), rng.choice(accepted), accepted)


# weight, skill: the share of each in training
SKILLS: tuple[tuple[int, Skill], ...] = (
    (26, project_fact),
    (8, small_talk),
    (5, capital),
    (4, short_fact),
    (15, arithmetic),
    (5, counting),
    (7, copying),
    (5, reversing),
    (3, spelling),
    (9, reading),
    (2, as_json),
    (16, declining),
)


def every_decline() -> frozenset[str]:
    """Return every fixed sentence with which the model declines (those naming a topic apart)."""
    groups = (
        DECLINING,
        DECLINING_WRITING,
        DECLINING_TRANSLATION,
        DECLINING_NUMBERS,
        DECLINING_DETAILS,
        NOT_UNDERSTOOD,
    )
    return frozenset(answer for group in groups for answer in group)


def held_out_wordings() -> frozenset[str]:
    """Return every wording of a project fact that is kept for evaluation."""
    return frozenset(text for fact in FACTS for text in fact.wordings(held_out=True))


def training_wordings() -> frozenset[str]:
    """Return every wording of a project fact that training may draw, before noise."""
    return frozenset(text for fact in FACTS for text in fact.wordings(held_out=False))


def expanded(patterns: tuple[str, ...]) -> list[str]:
    """Return every wording of every pattern."""
    return [text for pattern in patterns for text in expand_all(pattern)]
