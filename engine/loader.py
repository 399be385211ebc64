"""From a folder to a model that the engine trusts itself to serve, or a reason why not.

Local files, safetensors only, no code from the folder. The model is transformers' own; attention
and linear layers are ours. Whether that is still the same model is not assumed: before anything is
served, 40 tokens are run through the paged engine in seven steps and compared with transformers'
reference ("eager") attention, which unlike its fused one honours soft-capped scores and sinks.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from engine import linear
from engine.attention import AttentionHook, ShapeProbe, Span
from engine.config import EngineConfig
from engine.device import Computation, StepInput, TorchModel
from engine.errors import ConversionMismatch, ModelFiles, ModelRefused, UnsupportedModel
from engine.kv_cache import KVPool, LayerShape
from engine.native import model as native

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


def load(config: EngineConfig) -> LoadedModel:
    """Load, convert and compare the model of `config`.

    Raises:
        ModelFiles: the folder is incomplete or not safetensors.
        UnsupportedModel: the architecture does not fit; the message says what is in the way.
        ConversionMismatch: it seemed to fit, but computes something else.
    """
    hf_config = _read_config(config)
    max_model_len = _context(hf_config, config.max_model_len)
    dtype, device = _dtype(config), torch.device(config.device)
    model = _read_model(config, hf_config, dtype).to(device)
    vocab_size = model.get_output_embeddings().weight.shape[0]
    ids = (torch.arange(PROBE_TOKENS) * 7919 + 13) % vocab_size
    try:
        reference = _reference(model, ids.to(device))
        computation, shapes = _convert(config, model, hf_config, ids.to(device))
        loaded = LoadedModel(computation, shapes, reference.shape[-1], max_model_len, dtype, device)
        compare_rows(_paged(loaded, ids), reference, _tolerance(config))
    except ModelRefused:
        raise
    except Exception as error:  # whatever a stranger's model code raises, it is not served
        raise UnsupportedModel("its model code fails on the probe") from error
    return loaded


def _convert(
    config: EngineConfig,
    model: Any,  # noqa: ANN401 - one class an architecture
    hf_config: Any,  # noqa: ANN401
    ids: Tensor,
) -> tuple[Computation, list[LayerShape]]:
    """Return the fastest computation there is here for a model, and what its layers keep."""
    in_the_way = list(native.objections(model, _dtype(config), config.block_size))
    int8 = config.weights == "int8"
    if int8 and in_the_way:
        raise ModelRefused(f"int8 weights: {in_the_way[0]}")
    hook = AttentionHook()
    model.set_attn_implementation(hook.name)
    probe = _probe(model, hook, hf_config, ids)
    shapes = [probe.shapes[layer] for layer in sorted(probe.shapes)]
    if not in_the_way:
        return native.convert(model, probe, int8=int8), shapes
    vocab_size = model.get_output_embeddings().weight.shape[0]
    siblings = linear.convert(model)
    return TorchModel(model, hook, siblings, vocab_size), shapes


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


def _read_config(config: EngineConfig) -> Any:  # noqa: ANN401 - one class an architecture
    folder = config.model
    if not (folder / "config.json").is_file():
        raise ModelFiles("the folder has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise ModelFiles("the folder has no safetensors; other weight formats can run code")
    try:
        hf_config = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError, OSError) as error:
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


def _read_model(config: EngineConfig, hf_config: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            config.model,
            config=hf_config,
            dtype=dtype,
            attn_implementation="eager",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # each format library has errors of its own; none is served
        raise ModelFiles("transformers cannot load these weights as a causal model") from error
    if report["missing_keys"] or report.get("mismatched_keys"):
        raise ModelFiles("the safetensors lack tensors of the model, or have other shapes")
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise UnsupportedModel("its model code cannot limit the rows of logits")
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def _reference(model: Any, ids: Tensor) -> Tensor:  # noqa: ANN401
    logits: Tensor = model(input_ids=ids[None], use_cache=False).logits[0]
    return logits.float().cpu()


@torch.inference_mode()
def _probe(
    model: Any,  # noqa: ANN401
    hook: AttentionHook,
    hf_config: Any,  # noqa: ANN401
    ids: Tensor,
) -> ShapeProbe:
    probe = ShapeProbe()
    positions = torch.arange(len(ids), device=ids.device)
    with hook.use(probe):
        model.base_model(input_ids=ids[None], position_ids=positions[None], use_cache=False)
    count = getattr(hf_config, "num_hidden_layers", len(probe.shapes))
    if sorted(probe.shapes) != list(range(count)):
        raise UnsupportedModel("not every layer attends through the attention interface")
    kinds = getattr(hf_config, "layer_types", None) or []
    for layer, kind in enumerate(kinds):
        if (kind == "sliding_attention") != (probe.windows[layer] is not None):
            raise UnsupportedModel("a layer's sliding window does not reach the attention")
    return probe


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
        batch = StepInput(ids[start : start + length], [span], torch.arange(length))
        parts.append(device.step(batch).logits.clone())
        device.finish_step()
        start += length
    return torch.cat(parts)
