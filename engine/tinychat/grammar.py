"""Slot grammar for wordings, and the noise real people add to them.

A pattern is text with alternatives in brackets: ``[what is|what's] the relay[| for]``. Brackets do
not nest. Randomness is always the caller's `random.Random`.
"""

from __future__ import annotations

import itertools
import random
import re

_SLOT = re.compile(r"\[([^\]]*)\]")
_OPENINGS = ("hi, ", "hello, ", "hey, ", "please: ", "so, ", "quick question: ", "ok, ", "um, ")
_POLITE = (" please", ", please", " thanks", " :)", "")


def _pieces(pattern: str) -> list[tuple[str, ...]]:
    parts = _SLOT.split(pattern)  # literal, slot, literal, slot, ...
    return [tuple(part.split("|")) if odd % 2 else (part,) for odd, part in enumerate(parts)]


def expand(pattern: str, rng: random.Random) -> str:
    """Return one wording of `pattern`."""
    return "".join(rng.choice(piece) for piece in _pieces(pattern))


def expand_all(pattern: str) -> list[str]:
    """Return every wording of `pattern`, in a fixed order."""
    return ["".join(choice) for choice in itertools.product(*_pieces(pattern))]


def normalized(text: str) -> str:
    """Return `text` in lower case with every run of other than letters and digits as one space."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def _typo(text: str, rng: random.Random) -> str:
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


def spoken(question: str, rng: random.Random, *, mark: str = "?") -> str:
    """Return `question` as somebody might type it: opening, typos, case and final mark vary."""
    text = question
    if rng.random() < 0.12:
        text = rng.choice(_OPENINGS) + text
    if rng.random() < 0.05:
        text += rng.choice(_POLITE)
    if rng.random() < 0.15:
        text = _typo(text, rng)
    text = _cased(text, rng)
    if rng.random() < 0.7:
        text += mark
    return text


def capitalized(text: str) -> str:
    """Return `text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]
