"""U computed by the library: one call a step."""

from __future__ import annotations

import ctypes
import weakref
from array import array
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from engine.device import StepInput, StepOutput
from engine.kv_cache import KVPool
from engine.native import library
from engine.native.decoder import NativeWeights
from engine.native.transcript import NativeTranscript, Storage


class NativeDevice:
    """A `Device` whose steps are computed by the compiled library, on its own threads."""

    def __init__(
        self,
        model: NativeWeights,
        pool: KVPool,
        *,
        max_rows: int,
        max_logit_rows: int,
        transcribe: bool = False,
    ) -> None:
        """Compute a model over `pool`.

        Args:
            model: the packed weights.
            pool: keys and values.
            max_rows: of a step.
            max_logit_rows: rows of logits of a step.
            transcribe: whether steps come with a transcript, which the caller closes.
        """
        self._library = library.load()
        self._model = model
        self._pool = pool
        logits = torch.zeros(max_logit_rows, model.vocabulary)
        # Made once: after a step torch's code is in no cache, and even a slice takes it 20 us.
        self._logits = [logits[:rows] for rows in range(max_logit_rows + 1)]
        self._transcribe = transcribe
        self._storages: list[Storage] = []
        layers = (library.Layer * len(model.layers))(
            *(_layer(model, pool, index) for index in range(len(model.layers)))
        )
        structure = _model(model, layers, pool.block_size, max(max_rows, max_logit_rows))
        self._embeddings = model.embeddings.view(torch.int16).numpy()
        self._inputs = torch.zeros(max_rows, self._embeddings.shape[1], dtype=torch.bfloat16)
        self._staged = self._inputs.view(torch.int16).numpy()
        self._runner = self._library.sottovoce_create(ctypes.byref(structure), model.threads)
        if not self._runner:
            raise MemoryError("no memory for the activations of a step")
        weakref.finalize(self, self._library.sottovoce_destroy, self._runner)

    def step(self, batch: StepInput) -> StepOutput:
        """See `engine.device.Device`."""
        wanted = batch.logit_rows
        logits = self._logits[len(wanted)]
        told = self._transcript(batch, wanted) if self._transcribe else None
        structure = None if told is None else told.structure
        spans, size = batch.spans, self._pool.block_size
        positions = [p for span in spans for p in range(span.start, span.context)]
        slots = [
            span.blocks[p // size] * size + p % size
            for span in spans
            for p in range(span.start, span.context)
        ]
        first_rows = accumulate((span.length for span in spans), initial=0)
        first_blocks = accumulate((len(span.blocks) for span in spans), initial=0)
        words = _Numbers("i", positions, first_rows, first_blocks, wanted)
        longs = _Numbers("q", slots, (block for span in spans for block in span.blocks))
        step = library.Step(
            self._inputs.data_ptr(),
            words.at[0],
            longs.at[0],
            *words.at[1:3],
            longs.at[1],
            words.at[3],
            logits.data_ptr(),
            None if structure is None else ctypes.addressof(structure),
            len(positions),
            len(spans),
            len(wanted),
        )
        self._embed(batch.rows)
        self._library.sottovoce_step(self._runner, ctypes.byref(step))
        return StepOutput(logits, told)

    def _embed(self, rows: Tensor) -> None:
        """Put the rows' embeddings where the library reads them, and zeroes them."""
        if rows.is_floating_point():
            self._inputs[: len(rows)] = rows
            return
        # By numpy: torch would wake threads of its own, which then spin beside the library's.
        # Clipping (T has checked the ids) spares it a copy.
        staged = self._staged[: len(rows)]
        np.take(self._embeddings, rows.numpy(), axis=0, out=staged, mode="clip")

    def _transcript(self, batch: StepInput, wanted: Sequence[int]) -> NativeTranscript:
        storage = self._storages.pop() if self._storages else Storage()
        scored = _scored(batch, set(wanted))
        return NativeTranscript(self._model, storage, scored, len(wanted), self._storages.append)

    def finish_step(self) -> None:
        """See `engine.device.Device`."""
        self._library.sottovoce_clear(self._runner)

    def copy_blocks(self, source: Sequence[int], target: Sequence[int]) -> None:
        """See `engine.device.Device`."""
        self._pool.copy(source, target)

    def zero_blocks(self, blocks: Sequence[int]) -> None:
        """See `engine.device.Device`."""
        self._pool.zero(blocks)


class _Numbers:
    """Lists of numbers one after another in memory, and where each of them begins."""

    def __init__(self, kind: str, *lists: Iterable[int]) -> None:
        self._all = array(kind)
        starts = []
        for each in lists:
            starts.append(len(self._all))
            self._all.extend(each)
        base, _ = self._all.buffer_info()
        self.at = [base + start * self._all.itemsize for start in starts]


def _scored(batch: StepInput, wanted: AbstractSet[int]) -> list[int | None]:
    """Return how many positions the rows see whose scores T checks: those it decodes from."""
    contexts: list[int | None] = []
    for span in batch.spans:
        first = len(contexts)
        decoding = all(first + i in wanted for i in range(span.length))
        contexts += [span.start + i + 1 if decoding else None for i in range(span.length)]
    return contexts


def _layer(model: NativeWeights, pool: KVPool, index: int) -> library.Layer:
    layer = model.layers[index]
    norms = (
        layer.attention_norm,
        layer.mlp_norm,
        layer.attention_post_norm,
        layer.mlp_post_norm,
        layer.query_norm,
        layer.key_norm,
    )
    return library.Layer(
        *(None if norm is None else norm.data_ptr() for norm in norms),
        layer.qkv.structure,
        layer.output.structure,
        layer.gate_up.structure,
        layer.down.structure,
        pool.keys[index].data_ptr(),
        pool.values[index].data_ptr(),
        layer.window,
        layer.rotary,
    )


def _model(
    model: NativeWeights,
    layers: ctypes.Array[library.Layer],
    block_size: int,
    max_rows: int,
) -> library.Model:
    return library.Model(
        ctypes.addressof(layers),
        model.final_norm.data_ptr(),
        model.head.structure,
        model.frequencies.data_ptr(),
        model.rotary_scales.data_ptr(),
        model.epsilon,
        model.scaling,
        model.score_cap,
        model.logit_cap,
        model.embedding_scale,
        model.residual_scale,
        model.logit_scale,
        model.activation,
        model.gated,
        model.centred,
        model.parallel,
        model.whole_norms,
        len(model.frequencies),
        len(model.layers),
        model.embeddings.shape[1],
        model.heads,
        model.shape.heads,
        model.shape.key_size,
        model.intermediate,
        model.vocabulary,
        block_size,
        max_rows,
    )
