"""What the library writes down about a step, for `engine.verification`.

A step that is transcribed computes in the transcript's memory instead of buffers that layers
share; nothing is computed for it, and nothing is copied but keys, values and scores. The memory is
kept from step to step, as large as the largest step was.
"""

from __future__ import annotations

import ctypes
import mmap
from array import array
from collections.abc import Callable, Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from engine.memory import region
from engine.native import library
from engine.native.decoder import NativeWeights
from engine.native.weights import TILE
from engine.verification.transcript import Matrix, Opening, Product


class Storage:
    """Memory that transcripts are carved out of, one at a time; zeros while there is none."""

    def __init__(self) -> None:
        self._memory = {dtype: _zeros(dtype, 1) for dtype in (torch.bfloat16, torch.float)}
        self._used = dict.fromkeys(self._memory, 0)

    def reserve(self, dtype: torch.dtype, count: int) -> None:
        """Have room for so many numbers of one kind. Nothing is carved out yet."""
        if len(self._memory[dtype]) < count:
            self._memory[dtype] = _zeros(dtype, count)

    def take(self, dtype: torch.dtype, *shape: int) -> Tensor:
        """Carve a tensor out of what was reserved."""
        first = self._used[dtype]
        self._used[dtype] += prod(shape)
        return self._memory[dtype][first : self._used[dtype]].view(shape)

    def clear(self) -> None:
        """Take back what was taken; whoever wrote there has zeroed it."""
        self._used = dict.fromkeys(self._used, 0)


class NativeTranscript:
    """A `Transcript` of one step of the library."""

    def __init__(
        self,
        model: NativeWeights,
        storage: Storage,
        contexts: Sequence[int | None],
        wanted: int,
        done: Callable[[Storage], None],
    ) -> None:
        """Make room for a step.

        Args:
            model: what is computed.
            storage: its memory until `close`.
            contexts: of each row how many positions it sees, if its scores are wanted.
            wanted: rows of logits.
            done: is handed the storage, zeroed, by `close`.
        """
        self._storage: Storage | None = storage
        self._done = done
        self._layers, self._heads, self._contexts = len(model.layers), model.heads, contexts
        size, heads, key_heads = model.shape.key_size, model.heads, model.shape.heads
        hidden, rows = model.embeddings.shape[1], len(contexts)
        padded = -(-rows // TILE) * TILE
        widths = _widths(model)
        kept = sum(sum(pair) for pair in widths.values()) + (heads + 2 * key_heads) * size
        padded_wanted = -(-wanted // TILE) * TILE
        storage.reserve(torch.bfloat16, self._layers * padded * kept + padded_wanted * hidden)

        def rows_of(*shape: int) -> Tensor:
            return storage.take(torch.bfloat16, self._layers, padded, *shape)

        self._outputs = {matrix: rows_of(pair[0]) for matrix, pair in widths.items()}
        self._inputs = {matrix: rows_of(pair[1]) for matrix, pair in widths.items()}
        self._queries = rows_of(heads, size)
        self._all_keys, self._all_values = rows_of(key_heads, size), rows_of(key_heads, size)
        self._final = storage.take(torch.bfloat16, padded_wanted, hidden)
        self.keys, self.values = self._all_keys[:, :rows], self._all_values[:, :rows]
        self.final = self._final[:wanted]
        if model.parallel and model.layers[0].mlp_norm is None:
            self._inputs[Matrix.GATE_UP] = self._inputs[Matrix.QKV]
        self._make_scores(storage)

    def _make_scores(self, storage: Storage) -> None:
        each = self._layers * self._heads
        ends = torch.tensor([each * (context or 0) for context in self._contexts]).cumsum(0)
        self._score_at = [
            -1 if context is None else end - each * context
            for end, context in zip(ends.tolist(), self._contexts, strict=True)
        ]
        count = int(ends[-1])
        storage.reserve(torch.float, count)
        self._scores = storage.take(torch.float, count)
        self._starts = array("q", self._score_at)

    @property
    def structure(self) -> library.Transcript:
        """What the library is given."""
        pointers = ctypes.c_void_p * len(Matrix)
        return library.Transcript(
            pointers(*(self._outputs[matrix].data_ptr() for matrix in Matrix)),
            pointers(*(self._inputs[matrix].data_ptr() for matrix in Matrix)),
            self._queries.data_ptr(),
            self._all_keys.data_ptr(),
            self._all_values.data_ptr(),
            self._final.data_ptr(),
            self._scores.data_ptr(),
            self._starts.buffer_info()[0],
        )

    def open(self, rows: Sequence[int]) -> Opening:
        """See `Transcript`."""
        first, last = rows[0], rows[-1]
        whole = len(rows) == last - first + 1  # ascending: then they are read where they lie
        which = slice(first, last + 1) if whole else torch.tensor(rows)
        products = {
            matrix: Product(self._outputs[matrix], self._inputs[matrix]).rows(which)
            for matrix in Matrix
        }
        return Opening(rows, products, self._queries[:, which])

    def scores(self, row: int) -> Tensor:
        """See `Transcript`."""
        first, context = self._score_at[row], self._contexts[row]
        if context is None:
            raise IndexError("the scores of this row were not taken down")
        count = self._layers * self._heads * context
        return self._scores[first : first + count].view(self._layers, self._heads, context)

    def close(self) -> None:
        """See `Transcript`."""
        if self._storage is not None:
            storage, self._storage = self._storage, None
            for written in self._written():
                written.zero_()
            storage.clear()
            self._done(storage)

    def _written(self) -> Iterator[Tensor]:
        """Yield what the library wrote: not the rows that only fill up a tile."""
        rows = len(self._contexts)
        for kept in (*self._outputs.values(), *self._inputs.values(), self._queries):
            yield kept[:, :rows]
        yield from (self.keys, self.values, self.final, self._scores)


def _zeros(dtype: torch.dtype, count: int) -> Tensor:
    """Return memory like the KV pool's: in large pages, in no core dump, in no forked child."""
    taken = region(count * dtype.itemsize)
    taken.madvise(mmap.MADV_DONTDUMP)
    taken.madvise(mmap.MADV_DONTFORK)
    with torch.inference_mode(False):  # it is zeroed by T, in no such mode
        return torch.frombuffer(taken, dtype=dtype, count=count)


def _widths(model: NativeWeights) -> dict[Matrix, tuple[int, int]]:
    """Return outputs and inputs of the products."""
    heads, hidden = model.heads * model.shape.key_size, model.embeddings.shape[1]
    key_heads = model.shape.heads * model.shape.key_size
    return {
        Matrix.QKV: (heads + 2 * key_heads, hidden),
        Matrix.OUTPUT: (hidden, heads),
        Matrix.GATE_UP: (model.intermediate * (1 + model.gated), hidden),
        Matrix.DOWN: (hidden, model.intermediate),
    }
