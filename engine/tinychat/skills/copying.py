"""Saying again, turning round, spelling."""

from __future__ import annotations

import random

from engine.tinychat import words
from engine.tinychat.grammar import capitalized
from engine.tinychat.skills.exchange import Exchange, only, pick

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
    return only("copying", capitalized(pick(rng, _REPEAT, held_out).replace("{x}", text)), text)


def reversing(rng: random.Random, held_out: bool) -> Exchange:
    """Return a request to turn a short list round, or for its first or last word."""
    pool = rng.choice(
        (words.PLAIN, words.NAMES, words.ANIMALS, tuple("0123456789"), tuple("abcdefghij"))
    )
    items = rng.sample(pool, rng.randint(2, 5))
    between = rng.choice((", ", " "))
    if rng.random() < 0.3:
        which = rng.choice(("first", "last"))
        question = pick(rng, _ENDS, held_out).replace("{which}", which)
        answer = items[0] if which == "first" else items[-1]
    else:
        question, answer = pick(rng, _BACKWARDS, held_out), between.join(reversed(items))
    return only("reversing", capitalized(question.replace("{x}", between.join(items))), answer)


def spelling(rng: random.Random, held_out: bool) -> Exchange:
    """Return a question about the letters of a word, spelled out before it is answered."""
    word = rng.choice(words.SPELLED)
    kind = rng.randrange(3)
    question = pick(rng, (_SPELL, _LETTERS, _SPELL_BACK)[kind], held_out).replace("{x}", word)
    spelled = "-".join(word)
    back = "-".join(reversed(word))
    answer = (
        spelled,
        f"{spelled}: {len(word)} letters.",
        f"{spelled}, backwards {back}: {word[::-1]}",
    )[kind]
    return only("spelling", capitalized(question), answer)
