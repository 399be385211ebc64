"""A prompt that occurs nowhere else, in every form in which memory could hold a piece of it."""

import base64
import json
import struct
from dataclasses import dataclass, field

import numpy as np
import torch

WINDOW = 12
"""Characters of a piece of text: shorter ones occur by chance."""
FEW_IDS = 4
SHORTEST = 8
"""Bytes of a needle."""

_SYLLABLES = "zu qua xi vro mny plo gri tse fwa oj kry dle umb yst hno sph eck".split()  # noqa: SIM905


def canary(random, *, emoji=False):
    """Return a sentence of rare words; with emoji, Python keeps it four bytes a character."""
    words = ["".join(random.choices(_SYLLABLES, k=4)) for _ in range(10)]
    return " ".join(words) + (" \N{AUBERGINE}\N{OWL}" if emoji else "")


@dataclass
class Needles:
    """What to look for: name to bytes."""

    found: dict[str, bytes] = field(default_factory=dict)

    def text(self, name, text):
        """Take a text in pieces and words, in every encoding."""
        pieces = [text[i : i + WINDOW] for i in range(0, len(text) - WINDOW + 1, WINDOW // 2)]
        words = [word for word in text.split() if len(word) >= SHORTEST]
        for piece in {*pieces, *words}:
            for form, data in encodings(piece):
                if len(data) >= SHORTEST:
                    self.found[f"{name}: {form} of {piece!r}"] = data
        return self

    def sentence(self, name, text):
        """Take a text of common words in pieces of several of them."""
        for at in range(0, len(text) - 3 * WINDOW + 1, WINDOW):
            for form, data in encodings(text[at : at + 3 * WINDOW]):
                self.found[f"{name}: {form} at {at}"] = data
        return self

    def ids(self, name, ids):
        """Take token ids, some in a row, as arrays of every width hold them."""
        for at in range(0, len(ids) - FEW_IDS + 1, FEW_IDS // 2):
            for width, code in (("u16", "H"), ("i32", "i"), ("i64", "q")):
                data = struct.pack(f"<{FEW_IDS}{code}", *ids[at : at + FEW_IDS])
                self.found[f"{name}: {width} ids at {at}"] = data
        return self

    def rows(self, name, rows):
        """Take rows of a cache, a bfloat16 tensor [rows, ...], in the types it could be kept in."""
        for at, row in enumerate(rows.float().flatten(1)):
            part = row[:8]
            forms = {
                "bf16": part.bfloat16().view(dtype=torch.int16).numpy(),
                "fp32": part.numpy(),
                "fp16": part.half().numpy(),
            }
            for form, values in forms.items():
                if np.count_nonzero(values) == len(values):
                    self.found[f"{name}: {form} of row {at}"] = values.tobytes()
        return self

    def secret(self, name, secret):
        """Take a key."""
        self.found[name] = secret
        self.found[f"{name}, hex"] = secret.hex().encode()
        return self


def encodings(text):
    """Yield a text's forms by name."""
    raw = text.encode()
    yield "utf-8", raw
    yield "utf-16", text.encode("utf-16-le")
    yield "utf-32", text.encode("utf-32-le")
    yield "latin-1", text.encode("latin-1", "ignore")
    yield "JSON", json.dumps(text)[1:-1].encode()
    yield "hex", raw.hex().encode()
    yield "byte alphabet", text.replace(" ", "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}").encode()
    for phase in range(3):
        # Cut at both ends, where the neighbours of the text show.
        yield f"base64 at {phase}", base64.b64encode(bytes(phase) + raw)[4:-4]
