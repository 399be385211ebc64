"""U computed by the library: one call a step."""

from __future__ import annotations

import ctypes
import itertools
import weakref
from collections.abc import Sequence

import numpy as np
import torch

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
        self._logits = torch.zeros(max_logit_rows, model.vocabulary)
        self._used_logits = 0
        self._transcribe = transcribe
        self._storages: list[Storage] = []
        layers = (library.Layer * len(model.layers))(
            *(_layer(model, pool, index) for index in range(len(model.layers)))
        )
        structure = _model(model, layers, pool.block_size, max(max_rows, max_logit_rows))
        self._embeddings = model.embeddings.view(torch.int16).numpy()
        self._runner = self._library.sottovoce_create(ctypes.byref(structure), model.threads)
        if not self._runner:
            raise MemoryError("no memory for the activations of a step")
        weakref.finalize(self, self._library.sottovoce_destroy, self._runner)

    @torch.inference_mode()
    def step(self, batch: StepInput) -> StepOutput:
        """See `engine.device.Device`."""
        rows = batch.rows
        if not rows.is_floating_point():
            # By numpy, like what is zeroed: torch would wake threads of its own, which then spin
            # beside the library's.
            taken = np.take(self._embeddings, rows.numpy(), axis=0)
            embeddings = torch.from_numpy(taken).view(torch.bfloat16)
        else:
            embeddings = rows.to(torch.bfloat16, copy=True).contiguous()
        wanted = len(batch.logit_rows)
        self._used_logits = wanted
        logits = self._logits[:wanted]
        spans, size = batch.spans, self._pool.block_size
        positions = [p for span in spans for p in range(span.start, span.context)]
        slots = [
            span.blocks[p // size] * size + p % size
            for span in spans
            for p in range(span.start, span.context)
        ]
        numbers = (
            _array(ctypes.c_int32, positions),
            _array(ctypes.c_int64, slots),
            _array(ctypes.c_int32, _borders([span.length for span in spans])),
            _array(ctypes.c_int32, _borders([len(span.blocks) for span in spans])),
            _array(ctypes.c_int64, [block for span in spans for block in span.blocks]),
            _array(ctypes.c_int32, batch.logit_rows.tolist()),
        )
        told = self._transcript(batch) if self._transcribe else None
        structure = None if told is None else told.structure
        step = library.Step(
            embeddings.data_ptr(),
            *(ctypes.addressof(array) for array in numbers),
            logits.data_ptr(),
            None if structure is None else ctypes.addressof(structure),
            len(positions),
            len(spans),
            wanted,
        )
        self._library.sottovoce_step(self._runner, ctypes.byref(step))
        embeddings.view(torch.int16).numpy().fill(0)
        return StepOutput(logits, told)

    def _transcript(self, batch: StepInput) -> NativeTranscript:
        storage = self._storages.pop() if self._storages else Storage()
        return NativeTranscript(
            self._model,
            storage,
            _scored(batch),
            len(batch.logit_rows),
            self._storages.append,
        )

    def finish_step(self) -> None:
        """See `engine.device.Device`."""
        self._logits[: self._used_logits].numpy().fill(0.0)
        self._library.sottovoce_clear(self._runner)

    def copy_blocks(self, source: Sequence[int], target: Sequence[int]) -> None:
        """See `engine.device.Device`."""
        self._pool.copy(source, target)

    def zero_blocks(self, blocks: Sequence[int]) -> None:
        """See `engine.device.Device`."""
        self._pool.zero(blocks)


def _array(kind: type[ctypes.c_int32 | ctypes.c_int64], values: list[int]) -> ctypes.Array:  # type: ignore[type-arg]
    return (kind * len(values))(*values)


def _borders(lengths: list[int]) -> list[int]:
    return list(itertools.accumulate(lengths, initial=0))


def _scored(batch: StepInput) -> list[int | None]:
    """Return how many positions the rows see whose scores T checks: those it decodes from."""
    wanted = set(batch.logit_rows.tolist())
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
