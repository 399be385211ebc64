"""U on a CUDA device: transformers' model code, our kernels, graphs for steps that only decode.

What crosses to the device is one tensor of numbers a step (ids, positions, block tables), copied
from pinned memory without waiting; what comes back are the logits asked for, into pinned memory.
T reads them at once, so that copy is waited for. T itself stays on the CPU.

Between steps nothing of a step is left where it was put: numbers and logits are zeroed on both
sides by `finish_step`. What the model's own operations leave in freed memory is zeroed together
with a sequence's blocks, before anybody says that the sequence is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.attention import Attention, Span
from engine.cuda.attention import AlignedAttention, PagedAttention
from engine.cuda.backend import Kernels, choose
from engine.cuda.erase import CudaEraser
from engine.cuda.graphs import CudaRecorder, DecodeGraphs, Recorder
from engine.cuda.tables import (
    Shape,
    Tables,
    decoding_shape,
    fill,
    fill_decoding,
    shape_of,
    tile_length,
    view,
)
from engine.device import StepInput, StepOutput, TorchModel
from engine.kv_alignment import AlignedKVPool
from engine.kv_cache import KVPool

LARGEST_GRAPH = 128


class Eraser(Protocol):
    """Zeroes memory that nobody owns any more."""

    def erase(self) -> None:
        """Do it; on return it is done."""
        ...


@dataclass(frozen=True)
class Parts:
    """What a device consists of, apart from its model."""

    kernels: Kernels
    recorder: Recorder | None
    """None for a device without graphs."""
    eraser: Eraser
    pinned: bool


def cuda_parts(device: torch.device, *, kernels: str | None = None, graphs: bool = True) -> Parts:
    """Return the parts for a CUDA device, which becomes the current one: Triton runs on that.

    See `engine.cuda.backend.choose` for `kernels`.
    """
    torch.cuda.set_device(0 if device.index is None else device.index)
    recorder = CudaRecorder(device) if graphs else None
    return Parts(choose(device, only=kernels), recorder, CudaEraser(device), pinned=True)


class CudaDevice:
    """A `Device` that runs a converted transformers model on a GPU."""

    def __init__(
        self,
        computation: TorchModel,
        pool: KVPool | AlignedKVPool,
        *,
        max_rows: int,
        max_logit_rows: int,
        parts: Parts | None = None,
    ) -> None:
        """Take a model and a pool, both on the device, and record the graphs.

        Raises:
            ValueError: the kernels cannot work over blocks of this size.
        """
        self._model: Any = computation.model
        self._hook = computation.hook
        self._siblings = computation.siblings
        self._pool = pool
        self._device = pool.device
        self._parts = parts or cuda_parts(self._device)
        self._tile = self._tile_length()
        self._largest = min(max_logit_rows, LARGEST_GRAPH)
        # Rows of ids, positions, slots, decoding and tiles; sequences' contexts and borders; table.
        capacity = 5 * max_rows + 2 * max_logit_rows + 1 + pool.blocks * max_logit_rows
        pinned = self._parts.pinned
        self._host = torch.zeros(capacity, dtype=torch.int64, pin_memory=pinned)
        self._numbers = torch.zeros(capacity, dtype=torch.int64, device=self._device)
        vocab = computation.vocab_size
        self._logits = torch.zeros(max_logit_rows, vocab, pin_memory=pinned)
        self._recorded = torch.zeros(self._largest, vocab, device=self._device)
        self._used = self._used_logits = self._used_size = 0
        self._graphs: DecodeGraphs | None = None
        self._warm_up()

    @property
    def report(self) -> dict[str, object]:
        """What was chosen for this machine and model."""
        graphs = self._graphs
        return {
            "kernels": self._parts.kernels.name,
            "graphs": [] if graphs is None else graphs.recorded,
            "graphs_refused": None if graphs is None else graphs.refused,
        }

    @torch.inference_mode()
    def step(self, batch: StepInput) -> StepOutput:
        """See `Device`."""
        wanted = len(batch.logit_rows)
        self._used_logits = wanted
        size = self._size_for(batch)
        logits = self._compute(batch) if size is None else self._replay(batch, size)
        if logits is not None:
            self._logits[:wanted].copy_(logits)
        return StepOutput(self._logits[:wanted])

    def finish_step(self) -> None:
        """See `Device`."""
        for numbers in (self._host, self._numbers):
            numbers[: self._used].zero_()
        self._logits[: self._used_logits].zero_()
        self._recorded[: self._used_size].zero_()
        for siblings in self._siblings:
            siblings.clear()

    def copy_blocks(self, source: Sequence[int], target: Sequence[int]) -> None:
        """See `Device`."""
        self._pool.copy(source, target)

    def zero_blocks(self, blocks: Sequence[int]) -> None:
        """See `Device`. Also zeroes what the steps so far left in freed memory."""
        if isinstance(self._pool, AlignedKVPool):
            self._pool.zero(blocks)
        elif blocks:
            self._parts.kernels.zero(self._pool, blocks)
        self._parts.eraser.erase()

    def _size_for(self, batch: StepInput) -> int | None:
        """Return the graph's size for a step; None if it has to be computed without one."""
        alike = all(span.length == 1 for span in batch.spans)
        rows = len(batch.rows)
        if self._graphs is None or not alike or len(batch.logit_rows) != rows:
            return None
        return None if batch.rows.is_floating_point() else self._graphs.size_for(rows)

    def _replay(self, batch: StepInput, size: int) -> Tensor:
        """Compute a decoding step by a graph."""
        assert self._graphs is not None  # noqa: S101 - `_size_for` said so
        shape = decoding_shape(size, batch.spans, self._pool.block_size)
        tables = view(self._host, shape)
        fill_decoding(tables, batch.spans, self._pool.block_size)
        tables.ids[: len(batch.rows)] = batch.rows
        self._send(shape)
        self._used_size = size
        self._graphs.replay(size)
        return self._recorded[: len(batch.rows)]

    def _compute(self, batch: StepInput) -> Tensor | None:
        """Compute a step of any kind; None if no logits are wanted."""
        shape = shape_of(batch.spans, self._pool.block_size, self._tile)
        host = view(self._host, shape)
        fill(host, batch.spans, self._pool.block_size, self._tile)
        embeddings = batch.rows.is_floating_point()
        if not embeddings:
            host.ids.copy_(batch.rows)
        if shape.tiles and isinstance(self._pool, KVPool):
            self._parts.kernels.prepare(host, self._pool)
        tables = self._send(shape)
        inputs: dict[str, Any] = {"input_ids": tables.ids[None]}
        if embeddings:
            rows = batch.rows.to(self._device, self._pool.dtype, non_blocking=True)
            inputs = {"inputs_embeds": rows[None]}
        if len(batch.logit_rows):
            inputs["logits_to_keep"] = torch.tensor(batch.logit_rows, device=self._device)
        return self._run(self._attention(tables, batch.spans), tables, inputs)

    def _send(self, shape: Shape) -> Tables:
        """Copy the step's numbers to the device, without waiting."""
        self._used = shape.total
        self._numbers[: shape.total].copy_(self._host[: shape.total], non_blocking=True)
        return view(self._numbers, shape)

    def _run(self, attention: Attention, tables: Tables, inputs: dict[str, Any]) -> Tensor | None:
        inputs |= {"position_ids": tables.positions[None], "use_cache": False}
        with self._hook.use(attention):
            if "logits_to_keep" in inputs:
                logits: Tensor = self._model(**inputs).logits[0]
                return logits
            self._model.base_model(**inputs)
            return None

    def _attention(self, tables: Tables, spans: Sequence[Span]) -> Attention:
        kernels, pool = self._parts.kernels, self._pool
        if isinstance(pool, AlignedKVPool):
            by_triton = kernels.name != "torch"
            return AlignedAttention(pool, tables, spans, by_triton=by_triton)
        return PagedAttention(kernels, pool, tables)

    @torch.inference_mode()
    def _warm_up(self) -> None:
        """Compile what there is to compile, and record the graphs."""
        chunk = StepInput(torch.zeros(2, dtype=torch.int64), [Span([0], 0, 2)], [0])
        self.step(chunk)
        recorder = self._parts.recorder
        if recorder is not None:
            graphs = DecodeGraphs(recorder, self._pad, self._work, largest=self._largest)
            graphs.record_all()
            self._graphs = graphs
        self._used, self._used_size = len(self._host), self._largest
        self.finish_step()
        self.zero_blocks([0])

    def _tile_length(self) -> int:
        """Return a tile's rows, the fewest that some layer's kernel takes at a time."""
        if isinstance(self._pool, AlignedKVPool):
            return 1  # its chunks are attended as they are
        fewest = min(keys.shape[1] for keys in self._pool.keys)
        heads = getattr(self._model.config, "num_attention_heads", fewest)
        return tile_length(self._parts.kernels.tile_rows, -(-heads // fewest))

    def _pad(self, size: int) -> None:
        shape = decoding_shape(size, [], self._pool.block_size)
        fill_decoding(view(self._host, shape), [], self._pool.block_size)
        self._send(shape)

    def _work(self, size: int) -> None:
        """Compute the padded step whose numbers are on the device."""
        tables = view(self._numbers, Shape(size, size, size, 0, self._pool.blocks))
        logits = self._run(
            self._attention(tables, []),
            tables,
            {"input_ids": tables.ids[None], "logits_to_keep": 0},
        )
        self._recorded[:size].copy_(logits)  # type: ignore[arg-type] # logits were asked for
