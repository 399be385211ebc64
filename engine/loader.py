"""From a folder to a model that the engine trusts itself to serve, or a reason why not.

Local files, safetensors only, no code from the folder. The model is transformers' own; attention
and linear layers are ours. Whether that is still the same model is not assumed: before anything is
served, 40 tokens are run through the paged engine in seven steps and compared with transformers'
reference ("eager") attention, which unlike its fused one honours soft-capped scores and sinks.

The reference pass is also what loads the weights (`engine.skeleton.streamed`): a layer is read
when the pass comes to it, hashed into the model digest, used as transformers uses it, packed, and
let go. So every layer is compared whatever the size of the model, every byte is read once, and
what is in memory is the packed model and one layer. Where transformers converts a checkpoint on
the way (experts of a mixture that it joins, names of old), it is handed all tensors at once, and
the model is in memory unpacked for a while.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING

from engine import digest, linear, skeleton
from engine.adapters import Adapter, transposed_parameters
from engine.attention import AttentionHook, ShapeProbe, Span
from engine.checkpoint import Checkpoint
from engine.config import EngineConfig
from engine.device import Computation, StepInput, TorchModel
from engine.errors import ConversionMismatch, ModelFiles, ModelRefused, UnsupportedModel
from engine.kv_cache import KVPool, LayerShape
from engine.native import model as native
from engine.parallel.front import GroupModel
from engine.parallel.group import Group
from engine.parallel.part import part_of

Progress = Callable[[int], None]
"""Told how many per cent of a model's bytes were read, when that changes."""

PROBE_TOKENS = 40
_PROBE_SPANS = (9, 18, 4, 6, 1, 1, 1)
"""A first chunk, later ones, one across two blocks, and decoding: each has its own path."""
_PROBE_BLOCK = 32
_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
_TOLERANCE_INT8 = 0.15
"""Relative error of a row of logits. A wrong mask or a forgotten scale costs tens of per cent."""
_ROWS_IN_TOLERANCE = 0.75
"""Share of rows that must agree: rounding may send single tokens to another expert of a mixture,
while a conversion that is wrong from the second chunk on already spoils 31 rows of 40."""
_LAYER_TYPES = {"full_attention", "sliding_attention"}
_ROPE_BY_LENGTH = {"dynamic", "longrope"}


@dataclass(frozen=True)
class LoadedModel:
    """A converted, compared model."""

    computation: Computation
    shapes: list[LayerShape]
    vocab_size: int
    """Width of a row of logits."""
    max_model_len: int
    dtype: torch.dtype
    device: torch.device
    digest: bytes = b""
    """The model digest, of the bytes that were loaded (`engine.digest`)."""


def load(
    config: EngineConfig, progress: Progress | None = None, group: Group | None = None
) -> LoadedModel:
    """Load, convert and compare the model of `config`.

    In a group every rank loads its part at the same time, and rank 0 compares what they compute
    together; on return the others must follow (`engine.parallel.front`).

    Raises:
        ModelFiles: the folder is incomplete, not safetensors, or does not fit together.
        UnsupportedModel: the architecture does not fit; the message says what is in the way.
        ConversionMismatch: it seemed to fit, but computes something else.
    """
    with Checkpoint(config.model, progress) as checkpoint, ExitStack() as stack:
        adapter = None
        if config.adapter is not None:
            adapter = Adapter(stack.enter_context(Checkpoint(config.adapter)))
        hf_config = _read_config(checkpoint)
        max_model_len = _context(hf_config, config.max_model_len)
        try:
            loading = Loading(config, checkpoint, adapter, hf_config, group)
            reference = loading.run()
            computation, shapes = loading.converted()
            _check_tokenizer(checkpoint, reference.shape[-1])
            adapters = [] if adapter is None else [adapter.root]
            loaded = LoadedModel(
                computation,
                shapes,
                reference.shape[-1],
                max_model_len,
                _dtype(config),
                torch.device(config.device),
                digest.model_root(checkpoint.leaves(), config, adapters),
            )
            if group is not None:
                group.check_same(loaded.digest)
            if group is None or group.leads:
                compare_rows(_paged(loaded, loading.ids), reference, _tolerance(config))
        except (ModelRefused, MemoryError):
            raise
        except Exception as error:  # whatever a stranger's model code raises, it is not served
            raise UnsupportedModel("its model code fails on the probe") from error
    return loaded


class Loading:
    """One model on its way from a checkpoint to a computation."""

    def __init__(
        self,
        config: EngineConfig,
        checkpoint: Checkpoint,
        adapter: Adapter | None,
        hf_config: Any,  # noqa: ANN401 - one class an architecture
        group: Group | None,
    ) -> None:
        self._group = group
        self._part = None if group is None else part_of(config, hf_config, group)
        self._checkpoint, self._adapter, self._hf_config = checkpoint, adapter, hf_config
        self._dtype, self._device = _dtype(config), torch.device(config.device)
        self._model = skeleton.build(hf_config, self._dtype)
        if "logits_to_keep" not in inspect.signature(self._model.forward).parameters:
            raise UnsupportedModel("its model code cannot limit the rows of logits")
        self._transposed = frozenset(transposed_parameters(self._model))
        stored = {entry.name: entry.shape for entry in checkpoint.tensors.values()}
        self._places = skeleton.Places(self._model, stored)
        if not self._places.complete or self._model._keep_in_fp32_modules_strict:  # noqa: SLF001
            self._model = self._by_transformers()
            if adapter is not None:
                raise UnsupportedModel("adapters of a checkpoint that transformers converts")
        elif adapter is not None:
            adapter.check(self._places.names(), self._transposed)
        self._to_device()
        in_the_way = list(
            native.objections(self._model, self._dtype, self._device, config.block_size)
        )
        if group is not None:
            in_the_way.insert(0, "a group of ranks computes through torch")
        int8 = config.weights == "int8"
        if int8 and in_the_way:
            raise ModelRefused(f"int8 weights: {in_the_way[0]}")
        self._packer = None if in_the_way else native.Packer(self._model, int8=int8)
        self._hook, self._probe = AttentionHook(), ShapeProbe()
        self._siblings: list[linear.Siblings] = []
        vocab_size = self._model.get_output_embeddings().weight.shape[0]
        self.ids = (torch.arange(PROBE_TOKENS) * 7919 + 13) % vocab_size

    @torch.inference_mode()
    def run(self) -> Tensor:
        """Fill, use and pack the model; return the stock model's logits of the probe's ids."""
        with skeleton.streamed(self._model, self._fill, self._after_layer):
            ids = self.ids.to(self._device)
            logits: Tensor = self._model(input_ids=ids[None], use_cache=False).logits[0]
        self._fill(self._model, recurse=True)  # of what the pass did not come by
        _trim()
        return logits.float().cpu()

    @torch.inference_mode()
    def converted(self) -> tuple[Computation, list[LayerShape]]:
        """Return the fastest computation there is here, and what its layers keep."""
        self._check_probe()
        shapes = [self._probe.shapes[layer] for layer in sorted(self._probe.shapes)]
        if self._packer is not None:
            return self._packer.finish(self._probe), shapes
        self._model.set_attn_implementation(self._hook.name)
        vocab_size = self._model.get_output_embeddings().weight.shape[0]
        if self._part is not None:
            self._part.rest(self._model)
        self._siblings += linear.convert(self._model)
        model = TorchModel(self._model, self._hook, self._siblings, vocab_size)
        if self._part is None or self._group is None:
            return model, shapes
        own = self._part.computation(model)
        shapes = self._part.shapes(shapes)
        return (GroupModel(own, self._group) if self._group.leads else own), shapes

    def _fill(self, module: nn.Module, recurse: bool) -> None:
        self._places.fill(module, self._weight, recurse=recurse)

    def _weight(self, name: str, stored_name: str) -> Tensor:
        weight = self._checkpoint.read(stored_name)
        delta = None if self._adapter is None else self._adapter.get(name)
        if delta is not None:
            weight = delta.merged(weight, transposed=name in self._transposed)
        return _finite(weight.to(self._dtype)).to(self._device)

    def _after_layer(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ANN401
        """Note what a layer asks of its attention, then pack it."""
        self._model.set_attn_implementation(self._hook.name)
        divided = nullcontext() if self._part is None else self._part.layer(layer)
        with divided, self._hook.use(self._probe):
            layer.forward(*args, **kwargs)
        self._model.set_attn_implementation("eager")
        if self._packer is not None:
            self._packer.layer(layer)
        else:
            self._siblings += linear.convert(layer)
        _trim()

    def _check_probe(self) -> None:
        count = getattr(self._hf_config, "num_hidden_layers", len(self._probe.shapes))
        if sorted(self._probe.shapes) != list(range(count)):
            raise UnsupportedModel("not every layer attends through the attention interface")
        kinds = getattr(self._hf_config, "layer_types", None) or []
        for layer, kind in enumerate(kinds):
            if (kind == "sliding_attention") != (self._probe.windows[layer] is not None):
                raise UnsupportedModel("a layer's sliding window does not reach the attention")

    def _to_device(self) -> None:
        for module in self._model.modules():
            for name, buffer in module._buffers.items():  # noqa: SLF001 - parameters have no memory
                if buffer is not None:
                    module._buffers[name] = buffer.to(self._device)  # noqa: SLF001

    def _by_transformers(self) -> Any:  # noqa: ANN401
        """Load the model as transformers does, from tensors that were read and hashed here."""
        tensors = {name: self._checkpoint.read(name) for name in self._checkpoint.tensors}
        try:
            model, report = skeleton.model_class(self._hf_config).from_pretrained(
                None,
                config=self._hf_config,
                state_dict=tensors,
                dtype=self._dtype,
                attn_implementation="eager",
                output_loading_info=True,
            )
        except Exception as error:  # each format library has errors of its own; none is served
            raise ModelFiles("transformers cannot load these weights as a causal model") from error
        if report["missing_keys"] or report.get("mismatched_keys"):
            raise ModelFiles("the safetensors lack tensors of the model, or have other shapes")
        return model.eval().requires_grad_(False).to(self._device)


def _trim() -> None:
    """Give freed memory back: glibc keeps what lies between the weights that stay."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _finite(weight: Tensor) -> Tensor:
    if not bool(weight.isfinite().all()):
        raise ModelFiles("a weight is too large for the type that is computed in")
    return weight


def _check_tokenizer(checkpoint: Checkpoint, vocab_size: int) -> None:
    """Refuse a tokenizer, if there is one, that knows ids which the model has no embedding for."""
    tokenizer = checkpoint.json("tokenizer.json")
    if tokenizer is None:
        return
    try:
        vocabulary = tokenizer["model"]["vocab"]
        if isinstance(vocabulary, dict):
            ids = list(vocabulary.values())
        else:
            ids = list(range(len(vocabulary)))
        ids += [token["id"] for token in tokenizer.get("added_tokens") or ()]
        highest = max(map(int, ids), default=-1)
    except (KeyError, TypeError, ValueError):
        raise ModelFiles("tokenizer.json is not a tokenizer") from None
    if highest >= vocab_size:
        raise ModelFiles(
            f"the tokenizer does not match: it has ids up to {highest}, the model {vocab_size} rows"
        )


def compare_rows(got: Tensor, reference: Tensor, tolerance: float) -> None:
    """Compare logits [rows, vocab] row by row; `tolerance` is a relative error.

    Raises:
        ConversionMismatch: too many rows differ by more than rounding explains.
    """
    error = (got - reference).norm(dim=-1) / reference.norm(dim=-1).clamp_min(1e-12)
    # NaN compares as false, so a row of NaN counts as wrong.
    share = (error <= tolerance).float().mean().item()
    if share < _ROWS_IN_TOLERANCE:
        raise ConversionMismatch(
            f"after conversion only {share:.0%} of the probe's rows agree with the stock model"
        )


def _read_config(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 - one class an architecture
    fields = checkpoint.json("config.json")
    if fields is None:
        raise ModelFiles("the folder has no config.json")
    try:
        hf_config = CONFIG_MAPPING[fields["model_type"]].from_dict(fields)
    except Exception as error:  # a stranger's fields, checked by each architecture in its own way
        raise UnsupportedModel(
            "transformers has no implementation of its own for this config.json"
        ) from error
    for reason in objections(hf_config):
        raise UnsupportedModel(reason)
    return hf_config


def objections(hf_config: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield what in a configuration does not fit one paged KV pool with our attention."""
    if getattr(hf_config, "is_encoder_decoder", False):
        yield "encoder-decoder models are not served"
    for name in ("vision_config", "audio_config"):
        if getattr(hf_config, name, None) is not None:
            yield f"models with further encoders ({name}) are not served"
    if getattr(hf_config, "quantization_config", None) is not None:
        yield "quantised checkpoints are not served"
    others = set(getattr(hf_config, "layer_types", None) or ()) - _LAYER_TYPES
    if others:
        yield f"layers of type {', '.join(sorted(others))} keep no paged KV"
    if getattr(hf_config, "use_bidirectional_attention", False):
        yield "attention is not causal"
    if getattr(hf_config, "num_kv_shared_layers", 0):
        yield "layers share KV with each other"


def _context(hf_config: Any, wanted: int | None) -> int:  # noqa: ANN401
    limit = getattr(hf_config, "max_position_embeddings", None)
    if _rope_types(getattr(hf_config, "rope_parameters", None)) & _ROPE_BY_LENGTH:
        # Such a model changes its rotation with the longest sequence of the batch: beyond the
        # original context one user's length would change another user's answer.
        original = _originals(hf_config)
        limit = min([limit, *original] if limit else original, default=limit)
    if wanted is None and not limit:
        raise UnsupportedModel("the configuration names no context length; set max_model_len")
    if wanted is not None and limit and wanted > limit:
        raise ModelRefused(f"max_model_len is beyond the model's context of {limit}")
    return int(wanted if wanted is not None else limit or 0)


def _rope_types(parameters: Any) -> set[str]:  # noqa: ANN401
    if not isinstance(parameters, dict):
        return set()
    nested = [_rope_types(value) for value in parameters.values()]
    own = {parameters["rope_type"]} if isinstance(parameters.get("rope_type"), str) else set()
    return own.union(*nested)


def _originals(hf_config: Any) -> list[int]:  # noqa: ANN401
    parameters = getattr(hf_config, "rope_parameters", None) or {}
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    candidates = [
        getattr(hf_config, "original_max_position_embeddings", None),
        *(each.get("original_max_position_embeddings") for each in (parameters, *nested)),
    ]
    return [int(value) for value in candidates if value]


def _tolerance(config: EngineConfig) -> float:
    return _TOLERANCE_INT8 if config.weights == "int8" else _TOLERANCE[config.dtype]


def _dtype(config: EngineConfig) -> torch.dtype:
    dtype: torch.dtype = {"bfloat16": torch.bfloat16, "float32": torch.float32}[config.dtype]
    return dtype


def _paged(loaded: LoadedModel, ids: Tensor) -> Tensor:
    """Return the probe's logits as the engine computes them."""
    blocks = list(range(-(-PROBE_TOKENS // _PROBE_BLOCK)))
    pool = KVPool(
        loaded.shapes,
        blocks=len(blocks),
        block_size=_PROBE_BLOCK,
        dtype=loaded.dtype,
        device=loaded.device,
    )
    device = loaded.computation.on(pool, max_rows=PROBE_TOKENS, max_logit_rows=PROBE_TOKENS)
    parts = []
    start = 0
    for length in _PROBE_SPANS:
        span = Span(blocks, start, length)
        batch = StepInput(ids[start : start + length], [span], range(length))
        parts.append(device.step(batch).logits.clone())
        device.finish_step()
        start += length
    return torch.cat(parts)
