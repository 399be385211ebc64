"""Project facts, small talk, capitals and common knowledge."""

from __future__ import annotations

import random
from functools import cache

from engine.tinychat import words
from engine.tinychat.facts import FACTS, Fact
from engine.tinychat.grammar import normalized, reworded, spoken
from engine.tinychat.part import Part
from engine.tinychat.skills.exchange import Exchange, only, pick


def project_fact(rng: random.Random, part: Part) -> Exchange:
    """Return a question about sottovoce or about the model itself."""
    fact = rng.choice(FACTS)
    if part is Part.TRAINING:
        return only("facts", _training_question(fact, rng), fact.answer)
    return only("facts", spoken(fact.question(rng, part), rng, part), fact.answer)


def _training_question(fact: Fact, rng: random.Random) -> str:
    while True:
        question = spoken(reworded(fact.question(rng, Part.TRAINING), rng), rng)
        if normalized(question) not in _never_asked():  # noise may lead back to one kept back
            return question


@cache
def _never_asked() -> frozenset[str]:
    parts = (Part.HELD_OUT, Part.UNFAMILIAR)
    return frozenset(
        normalized(text) for fact in FACTS for part in parts for text in fact.wordings(part)
    )


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


def small_talk(rng: random.Random, part: Part) -> Exchange:
    """Return a greeting, a thank-you, a goodbye and the like."""
    patterns, answers = rng.choice(_SMALL_TALK)
    mark = rng.choice(("", "!", "."))
    question = spoken(pick(rng, patterns, part), rng, part, mark=mark)
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


def capital(rng: random.Random, part: Part) -> Exchange:
    """Return a question for a capital or, seldom, for the country of one."""
    country, city = rng.choice(words.CAPITALS)
    patterns = _COUNTRY if rng.random() < 0.2 else _CAPITAL
    question = pick(rng, patterns, part).replace("{x}", country).replace("{y}", city)
    answer = f"The capital of {country} is {city}."
    if patterns is _COUNTRY:
        answer = f"{city} is the capital of {country}."
    return only("capitals", spoken(question, rng, part), answer)


def short_fact(rng: random.Random, part: Part) -> Exchange:
    """Return a question of common knowledge."""
    patterns, answer = rng.choice(words.SHORT_FACTS)
    return only("short facts", spoken(pick(rng, patterns, part), rng, part), answer)
