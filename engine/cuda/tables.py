"""What the kernels know of a step: which row belongs to whom, and where its K and V lie.

All numbers of a step are laid out in one int64 tensor, filled on the host and copied to the device
by one asynchronous copy; the fields below are views of it. A field's place depends on the step's
`Shape` alone, so steps of one shape use the same addresses, as a captured graph must.

A padding row has slot -1 and context 0: it writes nothing, reads nothing, and its output is zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.attention import Span

PADDING_SLOT = -1


@dataclass(frozen=True)
class Shape:
    """How many of each there are in a step."""

    rows: int
    sequences: int
    width: int
    """Blocks of the longest sequence there may be; every sequence's line in the table is as long."""
    decoding: int
    """Sequences with one row."""
    tiles: int
    """Pieces of the other sequences' rows; see `Tables.tiles`."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of each field of `Tables`, in their order."""
        return (
            self.rows,
            self.rows,
            self.rows,
            self.sequences,
            self.sequences + 1,
            self.sequences * self.width,
            self.decoding,
            self.tiles * 2,
        )

    @property
    def total(self) -> int:
        """Numbers of all fields."""
        return sum(self.sizes)


@dataclass(frozen=True)
class Tables:
    """A step's numbers, int64, as views of one tensor."""

    ids: Tensor
    """[rows]; zeros where embeddings are given instead."""
    positions: Tensor
    """[rows]."""
    slots: Tensor
    """[rows]: where the row's K and V go; -1 for nowhere."""
    contexts: Tensor
    """[sequences]: positions there are after this step."""
    borders: Tensor
    """[sequences + 1]: each one's first row, and the end."""
    blocks: Tensor
    """[sequences, width], filled up with zeros."""
    decoding: Tensor
    """[decoding]: the sequences that have one row."""
    tiles: Tensor
    """[tiles, 2]: a sequence, and which of its rows, counted from 0, the tile begins with."""


def view(flat: Tensor, shape: Shape) -> Tables:
    """Return the fields of a step of `shape` over the first numbers of `flat`."""
    parts = list(torch.split(flat[: shape.total], shape.sizes))
    parts[5] = parts[5].view(shape.sequences, shape.width)
    parts[7] = parts[7].view(shape.tiles, 2)
    return Tables(*parts)


def shape_of(spans: Sequence[Span], width: int, tile: int) -> Shape:
    """Return the shape of a step of `spans`, whose chunks are cut into tiles of `tile` rows."""
    lengths = [span.length for span in spans]
    decoding = sum(length == 1 for length in lengths)
    tiles = sum(-(-length // tile) for length in lengths if length > 1)
    return Shape(sum(lengths), len(spans), width, decoding, tiles)


def fill(tables: Tables, spans: Sequence[Span], block_size: int, tile: int) -> None:
    """Write everything but the ids into `tables`, which are on the host and of the right shape."""
    tables.positions.copy_(_numbers(p for span in spans for p in range(span.start, span.context)))
    tables.slots.copy_(_numbers(slot for span in spans for slot in _slots(span, block_size)))
    tables.contexts.copy_(_numbers(span.context for span in spans))
    borders = itertools.accumulate((span.length for span in spans), initial=0)
    tables.borders.copy_(_numbers(borders))
    tables.blocks.zero_()
    for line, span in zip(tables.blocks, spans, strict=True):
        used = -(-span.context // block_size)
        line[:used] = _numbers(span.blocks[:used])
    chunks = [(at, span.length) for at, span in enumerate(spans) if span.length > 1]
    tables.decoding.copy_(_numbers(at for at, span in enumerate(spans) if span.length == 1))
    pairs = [(at, first) for at, length in chunks for first in range(0, length, tile)]
    tables.tiles.copy_(_numbers(itertools.chain(*pairs)).view(-1, 2))


def fill_decoding(tables: Tables, spans: Sequence[Span], block_size: int) -> None:
    """Write a step of single rows into `tables` of that many sequences or more; pad the rest."""
    used = len(spans)
    rows = len(tables.slots)
    fields = (tables.positions, tables.contexts, tables.borders, tables.decoding)
    for field in (*fields, tables.ids, tables.blocks):
        field.zero_()
    tables.slots.fill_(PADDING_SLOT)
    tables.borders.copy_(torch.arange(rows + 1))
    tables.decoding.copy_(torch.arange(rows))
    part = Tables(
        tables.ids[:used],
        tables.positions[:used],
        tables.slots[:used],
        tables.contexts[:used],
        tables.borders[: used + 1],
        tables.blocks[:used],
        tables.decoding[:used],
        tables.tiles,
    )
    fill(part, spans, block_size, 1)


def _slots(span: Span, block_size: int) -> Iterator[int]:
    for position in range(span.start, span.context):
        yield span.blocks[position // block_size] * block_size + position % block_size


def _numbers(values: Iterator[int] | Sequence[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64)
