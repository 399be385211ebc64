"""Dialogues packed side by side into rows of token ids: the batches of training.

`Packer.batch(step)` depends on the seed and the step alone, so a resumed run needs no position in
a stream: it asks for its next step and gets what an unbroken run would have got.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

import torch
from tokenizers import Tokenizer
from torch import Tensor

from engine.tinychat.chat import PAD, SPECIAL_TOKENS, segments
from engine.tinychat.corpus import dialogue
from engine.tinychat.dialogue import Dialogue

IGNORED = -100
PAD_ID = SPECIAL_TOKENS.index(PAD)  # special tokens are the first of the vocabulary
_MISSES = 8  # dialogues that fit no row before the rest is padded


@dataclass(frozen=True)
class Shape:
    """Rows and their length in tokens; `long` rows get long dialogues."""

    rows: int
    length: int
    long: bool = False


@dataclass(frozen=True)
class Batch:
    """Tensors of `[rows, length]`; targets are `IGNORED` wherever the model only reads.

    `mask` is `[rows, 1, length, length]`: true where a token may look (backwards, same dialogue).
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch(*(getattr(self, one.name).to(device) for one in fields(self)))


class _Row:
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.trained: list[bool] = []
        self.positions: list[int] = []
        self.dialogues: list[int] = []

    def add(self, ids: list[int], trained: list[bool]) -> None:
        number = self.dialogues[-1] + 1 if self.dialogues else 0
        self.ids += ids
        self.trained += trained
        self.positions += range(len(ids))
        self.dialogues += [number] * len(ids)

    def padded(self, length: int) -> None:
        missing = length - len(self.ids)
        self.add([PAD_ID] * missing, [False] * missing)


def encode(one: Dialogue, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Return the ids of a dialogue and, for each, whether the model learns to write it."""
    pieces = segments(one)
    ids: list[int] = []
    trained: list[bool] = []
    for piece, encoding in zip(
        pieces, tokenizer.encode_batch_fast([p.text for p in pieces]), strict=True
    ):
        ids += encoding.ids
        trained += [piece.trained] * len(encoding.ids)
    return ids, trained


def pack(rows: list[_Row], length: int) -> Batch:
    """Turn full rows into tensors."""
    ids = torch.tensor([row.ids for row in rows])
    trained = torch.tensor([row.trained for row in rows])
    number = torch.tensor([row.dialogues for row in rows])
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    mask = (number[:, :, None] == number[:, None, :]) & causal
    targets = torch.full_like(ids, IGNORED)
    targets[:, :-1] = torch.where(trained[:, 1:], ids[:, 1:], IGNORED)
    positions = torch.tensor([row.positions for row in rows])
    return Batch(ids, positions, mask[:, None], targets)


@dataclass(frozen=True)
class Packer:
    """Makes the batch of any step."""

    tokenizer: Tokenizer
    seed: int

    def batch(self, step: int, shape: Shape) -> Batch:
        """Return the batch of `step`: rows filled first-fit, short talks last, the rest padded."""
        rng = random.Random(f"{self.seed}/{step}")
        rows = [_Row() for _ in range(shape.rows)]
        misses = 0
        while misses < _MISSES:
            ids, trained = encode(
                dialogue(rng, long=shape.long and misses < _MISSES // 2), self.tokenizer
            )
            row = next((row for row in rows if len(row.ids) + len(ids) <= shape.length), None)
            if row is None:
                misses += 1
            else:
                row.add(ids, trained)
        for row in rows:
            row.padded(shape.length)
        return pack(rows, shape.length)
