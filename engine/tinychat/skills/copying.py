"""Saying again, turning round, spelling."""

from __future__ import annotations

import random

from engine.tinychat import words
from engine.tinychat.grammar import capitalized
from engine.tinychat.part import Part
from engine.tinychat.skills.exchange import Exchange, only, pick

_REPEAT = (
    "[repeat after me|repeat this|please repeat|repeat|say|echo|copy this|write]: {x}",
    "[say|repeat|write|echo] [exactly |]'{x}'",
    "[can you say|please say|say] {x}",
    "[repeat|say|copy] the following: {x}",
    "[reply|answer|respond] with [only|exactly|just|the word|the words|the text]: {x}",
    "[just say|reply with|say only|answer only with] [|the word |the words ]{x}",
    "[now |please |]copy [this|these|the words|the text|this line|exactly this]: {x}",
    "[i say|i write|my text is]: {x}[. repeat it|. copy it|. now you|. say it too]",
    "[give me back|return|type|print|put down] [|the text|the words|the symbols]: {x}",
    "[the same again|once more|word for word|letter for letter]: {x}",
    "[write|say|give] [the same|this] [symbols|words|letters|thing]: {x}",
    "say it after me: {x}",
)
_BACKWARDS = (
    "[reverse|turn round|reverse this list|reverse the list|say backwards]: {x}",
    "[please |]reverse {x}",
    "[what is|write] {x} [in reverse|backwards]",
    "[backwards|in reverse|reversed|from the end|last to first]: {x}",
    "[write|give|say|list] [this|these|the symbols|the words] [backwards|in reverse order]: {x}",
    "[{x}, backwards|{x} - reverse it|{x}: now in reverse|{x}, but from the end]",
    "[can you|could you|please] [reverse|turn round|turn around|flip] [this|these|the list]: {x}",
    "give me this the other way round: {x}",
)
_SPELL = (
    "[spell|please spell|can you spell|how do you spell|now spell|spell for me] {x}",
    "[spell|please spell|say the letters of|letters of|list the letters of] the word {x}",
    "[what are the|give me the|the] letters of {x}",
    "how is {x} spelled",
)
_LETTERS = (
    "how many letters [are in|has|does] [|the word ]{x}[| have]",
    "[count|please count|number of|how many are] the letters [in|of] {x}",
    "[letters in|length of|how long is] [|the word ]{x}[|, in letters]",
    "of how many letters is {x} made",
)
_SPELL_BACK = (
    "[reverse|spell backwards|turn round|write backwards] the [word|letters of] {x}",
    "[backwards|in reverse]: [|the word ]{x}, letter by letter",
    "[what is|spell] {x} [spelled |]backwards",
    "the word {x} from its end, please",
)
_ENDS = (
    "what is the {which} word of: {x}",
    "[give me|say|write|return] [only |]the {which} [word|symbol|one][| of this]: {x}",
    "[which|what] [word|symbol] is {which} [in|here]: {x}",
    "the {which} [word|symbol|one] of {x}",
    "of these words, which is the {which}: {x}",
)


_DIGITS = tuple("0123456789")
_SMALL = tuple("abcdefghijklmnopqrstuvwxyz")
_LARGE = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_POOLS = (words.PLAIN, words.NAMES, words.ANIMALS, words.THINGS, _DIGITS, _SMALL, _LARGE)
MOST_SYMBOLS = 8


def _symbols(rng: random.Random, fewest: int) -> tuple[list[str], str]:
    """Return up to eight different symbols of one sort and what parts them."""
    pool = rng.choice(_POOLS)
    items = rng.sample(pool, rng.randint(fewest, MOST_SYMBOLS))
    return items, rng.choice((" ", " ", ", "))


def _phrase(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.1:
        return "".join(rng.choice(_DIGITS) for _ in range(rng.randint(2, MOST_SYMBOLS)))
    if draw < 0.65:
        items, between = _symbols(rng, 1)
        return between.join(items)
    pool = (*words.PLAIN, *words.NAMES, *words.ANIMALS, *words.THINGS)
    count = rng.randint(1, MOST_SYMBOLS)
    some = [words.invented(rng) if rng.random() < 0.2 else rng.choice(pool) for _ in range(count)]
    text = " ".join(some)
    return capitalized(text) + rng.choice((".", "!", "")) if draw < 0.85 else text


def copying(rng: random.Random, part: Part) -> Exchange:
    """Return a request to say something again, word for word."""
    text = _phrase(rng)
    return only("copying", capitalized(pick(rng, _REPEAT, part).replace("{x}", text)), text)


def reversing(rng: random.Random, part: Part) -> Exchange:
    """Return a request to turn a short list round, or for its first or last word."""
    items, between = _symbols(rng, 2)
    if rng.random() < 0.2:
        which = rng.choice(("first", "last"))
        question = pick(rng, _ENDS, part).replace("{which}", which)
        answer = items[0] if which == "first" else items[-1]
    else:
        question, answer = pick(rng, _BACKWARDS, part), between.join(reversed(items))
    return only("reversing", capitalized(question.replace("{x}", between.join(items))), answer)


def spelling(rng: random.Random, part: Part) -> Exchange:
    """Return a question about the letters of a word, spelled out before it is answered."""
    word = rng.choice(words.SPELLED)
    kind = rng.randrange(3)
    question = pick(rng, (_SPELL, _LETTERS, _SPELL_BACK)[kind], part).replace("{x}", word)
    spelled = "-".join(word)
    back = "-".join(reversed(word))
    answer = (
        spelled,
        f"{spelled}: {len(word)} letters.",
        f"{spelled}, backwards {back}: {word[::-1]}",
    )[kind]
    return only("spelling", capitalized(question), answer)
