"""What the kernels know of a step: which row belongs to whom, and where its K and V lie.

All numbers of a step are laid out in one int64 tensor, filled on the host and copied to the device
by one asynchronous copy; the fields below are views of it. A field's place depends on the step's
`Shape` alone, and the block table comes last, a line a block: so the same addresses serve every
step with as many rows and sequences, as a captured graph demands, and of the table only the lines
that are in use need to be copied.

A padding row has slot -1 and context 0: it writes nothing, reads nothing, and its output is zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.attention import Span

PADDING_SLOT = -1


@dataclass(frozen=True)
class Shape:
    """How many of each there are in a step."""

    rows: int
    sequences: int
    decoding: int
    """Sequences with one row."""
    tiles: int
    """Pieces of the other sequences' rows; see `Tables.tiles`."""
    width: int
    """Blocks of the longest sequence."""

    @property
    def sizes(self) -> list[int]:
        """Numbers of each field of `Tables`, in their order."""
        return [
            self.rows,
            self.rows,
            self.rows,
            self.sequences,
            self.sequences + 1,
            self.decoding,
            self.tiles * 2,
            self.width * self.sequences,
        ]

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
    decoding: Tensor
    """[decoding]: the sequences that have one row."""
    tiles: Tensor
    """[tiles, 2]: a sequence, and which of its rows, counted from 0, the tile begins with."""
    blocks: Tensor
    """[width, sequences]: each one's blocks, in order of position; what is beyond them is never
    looked at and may be anything."""


def tile_length(tile_rows: int, shared: int) -> int:
    """Return a tile's rows of a chunk where `shared` query heads share a KV head."""
    return max(1, tile_rows // shared)


def view(flat: Tensor, shape: Shape) -> Tables:
    """Return the fields of a step of `shape` over the first numbers of `flat`."""
    ids, positions, slots, contexts, borders, decoding, tiles, blocks = torch.split(
        flat[: shape.total], shape.sizes
    )
    return Tables(
        ids,
        positions,
        slots,
        contexts,
        borders,
        decoding,
        tiles.view(shape.tiles, 2),
        blocks.view(shape.width, shape.sequences),
    )


def shape_of(spans: Sequence[Span], block_size: int, tile: int) -> Shape:
    """Return the shape of a step of `spans`, whose chunks are cut into tiles of `tile` rows."""
    lengths = [span.length for span in spans]
    decoding = sum(length == 1 for length in lengths)
    tiles = sum(-(-length // tile) for length in lengths if length > 1)
    return Shape(sum(lengths), len(spans), decoding, tiles, _width(spans, block_size))


def decoding_shape(rows: int, spans: Sequence[Span], block_size: int) -> Shape:
    """Return the shape of a step of `spans`, a row each, padded to so many rows."""
    return Shape(rows, rows, rows, 0, _width(spans, block_size))


def fill(tables: Tables, spans: Sequence[Span], block_size: int, tile: int) -> None:
    """Write everything but the ids into `tables`, which are on the host and of the right shape."""
    _fill_sequences(tables, spans, block_size)
    chunks = [(at, span.length) for at, span in enumerate(spans) if span.length > 1]
    pairs = ((at, first) for at, length in chunks for first in range(0, length, tile))
    _set(tables.decoding, (at for at, span in enumerate(spans) if span.length == 1))
    _set(tables.tiles.view(-1), itertools.chain.from_iterable(pairs))


def fill_decoding(tables: Tables, spans: Sequence[Span], block_size: int) -> None:
    """Write a step of single rows into `tables` of that many rows or more; the rest is padding."""
    rows, used = len(tables.slots), len(spans)
    _fill_sequences(tables, spans, block_size)
    for field in (tables.ids, tables.positions, tables.contexts):
        field[used:] = 0
    tables.slots[used:] = PADDING_SLOT
    _set(tables.borders, range(rows + 1))
    _set(tables.decoding, range(rows))


def _fill_sequences(tables: Tables, spans: Sequence[Span], block_size: int) -> None:
    _set(tables.positions, (p for span in spans for p in range(span.start, span.context)))
    _set(tables.slots, (slot for span in spans for slot in _slots(span, block_size)))
    _set(tables.contexts, (span.context for span in spans))
    _set(tables.borders, itertools.accumulate((span.length for span in spans), initial=0))
    table = tables.blocks.numpy()
    for at, span in enumerate(spans):
        used = -(-span.context // block_size)
        table[:used, at] = span.blocks[:used]


def _width(spans: Sequence[Span], block_size: int) -> int:
    return -(-max((span.context for span in spans), default=0) // block_size)


def _slots(span: Span, block_size: int) -> Iterator[int]:
    for position in range(span.start, span.context):
        yield span.blocks[position // block_size] * block_size + position % block_size


def _set(field: Tensor, values: Iterable[int]) -> None:
    """Write values to the front of a field."""
    numbers = np.fromiter(values, np.int64)
    field.numpy()[: len(numbers)] = numbers
