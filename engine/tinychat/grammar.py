"""Slot grammar for wordings, what is kept back of them, and the noise real people add.

A pattern is text with alternatives in brackets: ``[what is|what's] the relay[| for]``. Brackets do
not nest. Randomness is always the caller's `random.Random`.
"""

from __future__ import annotations

import itertools
import random
import re
import zlib
from functools import cache

from engine.tinychat.part import Part

_SLOT = re.compile(r"\[([^\]]*)\]")
_OPENINGS = (
    *("hi, ", "hello, ", "hey, ", "please: ", "so, ", "quick question: ", "ok, ", "um, ", "and "),
    *("tell me, ", "tell me: ", "one question: ", "please tell me: ", "now, ", "next: ", "well, "),
    *("I wonder, ", "I want to know: ", "can you tell me: ", "one more thing, ", "say, ", "but "),
    *("do you know: ", "excuse me, ", "just asking, ", "sorry, ", "dear model, ", "good day. "),
)
_TAILS = (
    *(" please", ", please", ", thanks", " :)", ", in short", ", briefly", ", tell me", " really"),
    *(" exactly", ", I wonder", " then", " here", " now", ", do you know", " in one sentence"),
)
_SYNONYMS = {
    "prompt": ("message", "question", "request", "text", "input"),
    "prompts": ("messages", "questions", "requests", "inputs"),
    "messages": ("prompts", "chats", "requests"),
    "read": ("see", "look at"),
    "stored": ("saved", "kept"),
    "what is": ("what's", "whats", "what exactly is"),
    "how do i": ("how can i", "how to", "how should i", "how would i"),
    "how does": ("in what way does", "how exactly does"),
    "why is": ("how come", "for what reason is"),
    "sottovoce": ("this server", "Sottovoce", "this software"),
    "tell me": ("say", "explain to me", "let me know"),
    "explain": ("describe", "clarify", "tell me about"),
    "which": ("what",),
    "can": ("could", "may"),
    "use": ("take", "make use of"),
    "start": ("launch", "begin"),
    "gpu": ("accelerator", "graphics card"),
    "node": ("worker",),
    "i": ("one", "we"),
}
_SMALL_WORDS = frozenset(
    ("a an the is are was do does did of to in on for i you my me it this be can have has").split()  # noqa: SIM905
)


def _pieces(pattern: str) -> list[tuple[str, ...]]:
    parts = _SLOT.split(pattern)  # literal, slot, literal, slot, ...
    return [tuple(part.split("|")) if odd % 2 else (part,) for odd, part in enumerate(parts)]


def expand(pattern: str, rng: random.Random) -> str:
    """Return one wording of `pattern`."""
    return "".join(rng.choice(piece) for piece in _pieces(pattern))


def expand_all(pattern: str) -> list[str]:
    """Return every wording of `pattern`, in a fixed order."""
    return ["".join(choice) for choice in itertools.product(*_pieces(pattern))]


@cache
def kept_back(patterns: tuple[str, ...]) -> frozenset[str]:
    """Return the tenth of the wordings of `patterns`, at least one, that training never sees."""
    every = sorted({text for pattern in patterns for text in expand_all(pattern)}, key=_drawn)
    return frozenset(every[: max(1, round(len(every) / 10))])


def _drawn(text: str) -> tuple[int, str]:
    return zlib.crc32(text.encode()), text


def normalized(text: str) -> str:
    """Return `text` in lower case with every run of other than letters and digits as one space."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def typo(text: str, rng: random.Random) -> str:
    """Swap, drop or double one letter; words of digits stay as they are."""
    places = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()]
    if not places:
        return text
    i = rng.choice(places)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    if kind == 1:
        return text[:i] + text[i + 1 :]
    return text[: i + 1] + text[i:]


def _cased(text: str, rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.55:
        return text[:1].upper() + text[1:]
    if draw < 0.6:
        return text.upper()
    return text


def reworded(question: str, rng: random.Random) -> str:
    """Return `question` with some words exchanged for others of like sense, or in telegram style.

    Only for training: it teaches that the sense hangs on few words, wherever they stand.
    """
    text = question
    for word, others in _SYNONYMS.items():
        if rng.random() < 0.15:
            text = re.sub(rf"\b{word}\b", rng.choice(others), text, count=1)
    return _telegram(text, rng) if rng.random() < 0.12 else text


def _telegram(text: str, rng: random.Random) -> str:
    kept = [word for word in text.split() if word not in _SMALL_WORDS or rng.random() < 0.3]
    return " ".join(kept) if sum(len(word) > 3 for word in kept) > 1 else text


def spoken(
    question: str, rng: random.Random, part: Part = Part.TRAINING, *, mark: str = "?"
) -> str:
    """Return `question` as somebody might type it: opening, typos, case and final mark vary.

    What is kept back from training is spelt right: it measures wordings, and misspelling is
    measured apart (`evaluate.misspelt`).
    """
    text = question
    if rng.random() < 0.2:
        text = rng.choice(_OPENINGS) + text
    if rng.random() < 0.1:
        text += rng.choice(_TAILS)
    if rng.random() < 0.15 and part is Part.TRAINING:
        text = typo(text, rng)
    text = _cased(text, rng)
    if rng.random() < 0.7:
        text += mark
    return text


def capitalized(text: str) -> str:
    """Return `text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]
