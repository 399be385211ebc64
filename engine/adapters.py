"""LoRA adapters in PEFT's folder layout, merged into weights while these are loaded.

A worker serves one model; with an adapter it is the model `base:name`, whose digest covers base
and adapter. So the adapter costs nothing per token: W becomes W + scale * B A, computed in float32
and rounded once.

Taken are plain LoRA matrices of linear layers. Whatever else an adapter may bring (biases, whole
modules, DoRA magnitudes, embeddings) is refused: half an adapter is another model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from engine.checkpoint import Checkpoint
from engine.errors import ModelFiles, UnsupportedModel

CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_MATRIX = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")

_PLAIN = re.compile(r"[\w.]+")


@dataclass(frozen=True)
class Delta:
    """What one module's weight changes by: `scale` times B [outputs, rank] A [rank, inputs]."""

    down: Tensor
    up: Tensor
    scale: float

    def merged(self, weight: Tensor, *, transposed: bool) -> Tensor:
        """Return the changed weight, in float32.

        Args:
            weight: [outputs, inputs], or the other way round.
            transposed: which way round.
        """
        change = self.scale * (self.up.float() @ self.down.float())
        return weight.float() + (change.T if transposed else change)


class Adapter:
    """An adapter's changes, by the name of the parameter that each is for."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Read a whole adapter; it is small.

        Raises:
            ModelFiles: the folder is incomplete, or not well formed.
            UnsupportedModel: it is no plain LoRA adapter.
        """
        fields = checkpoint.json(CONFIG)
        if fields is None:
            raise ModelFiles(f"the adapter's folder has no {CONFIG}")
        for reason in objections(fields):
            raise UnsupportedModel(f"the adapter {reason}")
        sides: dict[str, dict[str, Tensor]] = {}
        for name in checkpoint.tensors:
            match = _MATRIX.fullmatch(name.removeprefix(_PREFIX))
            if match is None:
                raise UnsupportedModel("the adapter has tensors that are no LoRA matrices")
            sides.setdefault(match["module"], {})[match["side"]] = checkpoint.read(name)
        self._deltas = {
            f"{module}.weight": _delta(module, pair, fields) for module, pair in sides.items()
        }
        self.root = checkpoint.root()

    def check(self, shapes: dict[str, tuple[int, ...]], transposed: Iterable[str]) -> None:
        """Check that the base model has what this adapter changes.

        Args:
            shapes: of the base model's parameters, by name.
            transposed: those stored as [inputs, outputs].

        Raises:
            ModelFiles: it has not, or in another shape.
        """
        turned = set(transposed)
        for name, delta in self._deltas.items():
            shape = (len(delta.up), delta.down.shape[1])
            if shapes.get(name) != (shape[::-1] if name in turned else shape):
                raise ModelFiles("the adapter is for another base model: modules do not match")

    def get(self, name: str) -> Delta | None:
        """Return what a parameter changes by, None if it does not."""
        return self._deltas.get(name)


def objections(fields: dict[str, Any]) -> Iterable[str]:
    """Yield what in an adapter's configuration is not plain LoRA."""
    if fields.get("peft_type") != "LORA":
        yield "is not of type LORA"
    if fields.get("bias", "none") != "none":
        yield "changes biases"
    for name in ("modules_to_save", "trainable_token_indices", "layer_replication"):
        if fields.get(name):
            yield f"has {name}"
    for name in ("use_dora", "lora_bias", "use_qalora"):
        if fields.get(name):
            yield f"sets {name}"


def _delta(module: str, pair: dict[str, Tensor], fields: dict[str, Any]) -> Delta:
    down, up = pair.get("A"), pair.get("B")
    if down is None or up is None or down.dim() != 2 or up.dim() != 2 or len(down) != up.shape[1]:
        raise ModelFiles("the adapter's matrices do not fit each other")
    rank = len(down)
    alpha = _of_module(fields.get("alpha_pattern"), module, fields.get("lora_alpha"))
    if type(alpha) not in {int, float} or not rank:
        raise ModelFiles(f"{CONFIG} has no usable lora_alpha")
    return Delta(down, up, alpha / (rank**0.5 if fields.get("use_rslora") else rank))


def _of_module(pattern: Any, module: str, default: Any) -> Any:  # noqa: ANN401 - a stranger's JSON
    """Return the value of the first key that is the end of a module's path, as PEFT does."""
    if not isinstance(pattern or {}, dict):
        raise ModelFiles(f"{CONFIG} has a pattern that is no object")
    for key, value in (pattern or {}).items():
        if not _PLAIN.fullmatch(key):
            raise UnsupportedModel("the adapter names modules by regular expressions")
        if module == key or module.endswith(f".{key}"):
            return value
    return default


def transposed_parameters(model: Any) -> list[str]:  # noqa: ANN401
    """Return the names of a model's weights that are stored as [inputs, outputs] (GPT-2's)."""
    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if type(module).__name__ == "Conv1D"
    ]
