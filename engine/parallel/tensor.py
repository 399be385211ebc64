"""Tensor parallel: every layer's products divided among the ranks, by transformers' own plan.

The plan (`base_model_tp_plan`) names for each projection how it is divided:

    colwise               a rank computes some of the outputs: its own heads, its own channels
    rowwise               a rank holds the columns for those; the products are summed over ranks
    colwise_gather_output the outputs are brought together again (norms over all heads need it)
    rowwise_split_input   a rank takes its columns' part of a whole input
    packed_colwise, moe_tp_experts    the same for the experts of a mixture

Query and KV heads are divided alike, so a rank's pool holds its own KV heads only. Norms, routers
and embeddings are on every rank. A model without a plan, or with a word in it that is not known
here, is refused. What is made is compared with the stock model like any conversion.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from engine.device import Computation, TorchModel
from engine.errors import UnsupportedModel
from engine.kv_cache import LayerShape
from engine.parallel.group import Group

_WHOLE = "replicated_with_grad_allreduce"
_KINDS = {
    "colwise",
    "rowwise",
    "colwise_gather_output",
    "rowwise_split_input",
    "packed_colwise",
    "moe_tp_experts",
    _WHOLE,
}
_HEADS = {"q_proj", "k_proj", "v_proj", "query_key_value"}


class TensorPart:
    """One rank's share of every product (`engine.parallel.part.Part`)."""

    def __init__(self, hf_config: Any, group: Group) -> None:  # noqa: ANN401
        """Read the plan.

        Raises:
            UnsupportedModel: there is none for this model and so many ranks.
        """
        self._group = group
        self._plan = _plan(hf_config)
        for name, kind in self._plan.items():
            if kind == "colwise" and name.rpartition(".")[2] in _HEADS:
                _check_heads(hf_config, group.size)

    @contextmanager
    def layer(self, layer: Any) -> Iterator[None]:  # noqa: ANN401
        """See `Part`; the layer that is called is the divided one."""
        for name, module in list(layer.named_modules()):
            kind = self._plan.get(_generic(name))
            if kind == "moe_tp_experts":
                module.register_forward_hook(lambda _module, _args, out: self._group.sum(out))
            elif kind is not None and kind != _WHOLE:
                self._replace(layer, name, module, kind)
        for name, parameter in list(layer.named_parameters()):
            kind = self._plan.get(_generic(name))
            if kind is not None:
                self._divide(layer, name, parameter, kind)
        yield

    def rest(self, model: Any) -> None:  # noqa: ANN401
        """See `Part`: the head's rows are divided if their number allows it."""
        head = model.get_output_embeddings()
        if type(head) is nn.Linear and head.out_features % self._group.size == 0:
            model.set_output_embeddings(Gathered(self._columns(head), self._group))

    def shapes(self, shapes: list[LayerShape]) -> list[LayerShape]:
        """See `Part`: the divided layers asked for their own heads already."""
        return shapes

    def computation(self, model: TorchModel) -> Computation:
        """See `Part`."""
        return model

    def _replace(self, layer: Any, name: str, module: Any, kind: str) -> None:  # noqa: ANN401
        if type(module) is not nn.Linear:
            raise UnsupportedModel(f"{name} of the plan is not a linear layer")
        wide = module.out_features if kind.startswith("colwise") else module.in_features
        if wide % self._group.size:
            raise UnsupportedModel(f"{name} cannot be divided among {self._group.size} ranks")
        parent, _, own = name.rpartition(".")
        divided: nn.Module
        if kind == "colwise":
            divided = self._columns(module)
        elif kind == "colwise_gather_output":
            divided = Gathered(self._columns(module), self._group)
        else:
            whole = kind == "rowwise_split_input"
            divided = Summed(self._rows(module), module.bias, self._group, whole_input=whole)
        setattr(layer.get_submodule(parent), own, divided)

    def _divide(self, layer: Any, name: str, parameter: Tensor, kind: str) -> None:  # noqa: ANN401
        """Divide the joint weights of a mixture's experts, [experts, out, in]."""
        dim = -1 if kind == "rowwise" else -2
        halves = parameter.chunk(2, dim) if kind == "packed_colwise" else (parameter,)
        if any(half.shape[dim] % self._group.size for half in halves):
            raise UnsupportedModel(f"{name} cannot be divided among {self._group.size} ranks")
        own = torch.cat([self._group.mine(half, dim) for half in halves], dim)
        parent, _, last = name.rpartition(".")
        setattr(layer.get_submodule(parent), last, nn.Parameter(own, requires_grad=False))

    def _columns(self, module: nn.Linear) -> nn.Linear:
        bias = None if module.bias is None else self._group.mine(module.bias.detach(), 0)
        return _linear(self._group.mine(module.weight.detach(), 0), bias)

    def _rows(self, module: nn.Linear) -> nn.Linear:
        return _linear(self._group.mine(module.weight.detach(), 1), None)


class Gathered(nn.Module):
    """A product of which each rank computes some columns, and has all of them afterwards."""

    def __init__(self, part: nn.Linear, group: Group) -> None:
        super().__init__()
        self.part = part
        self._group = group

    def forward(self, x: Tensor) -> Tensor:
        """Multiply rows [..., in_features]."""
        return self._group.join(self.part(x), -1)


class Summed(nn.Module):
    """A product whose input is divided among the ranks; its bias is added once, to the sum."""

    def __init__(
        self, part: nn.Linear, bias: Tensor | None, group: Group, *, whole_input: bool
    ) -> None:
        super().__init__()
        self.part = part
        self._bias = bias
        self._group = group
        self._whole_input = whole_input

    def forward(self, x: Tensor) -> Tensor:
        """Multiply rows [..., this rank's in_features], or [..., in_features] of whole input."""
        if self._whole_input:
            x = self._group.mine(x, -1)
        out = self._group.sum(self.part(x))
        return out if self._bias is None else out + self._bias


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a linear layer over a weight that exists, without making another."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear


def _plan(hf_config: Any) -> dict[str, str]:  # noqa: ANN401
    """Return the plan of one layer, by the names of its modules and parameters."""
    plan: dict[str, str] = {}
    for name, kind in (getattr(hf_config, "base_model_tp_plan", None) or {}).items():
        _, inside, within = name.partition(".*.")
        if not inside:
            continue  # an embedding or a norm; those are on every rank
        if kind not in _KINDS:
            raise UnsupportedModel(f"its tensor-parallel plan asks for {kind}")
        plan[within] = kind
    if not plan:
        raise UnsupportedModel("transformers has no tensor-parallel plan for it")
    return plan


def _generic(name: str) -> str:
    """Return a name as plans write it, with * for a number."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _check_heads(hf_config: Any, size: int) -> None:  # noqa: ANN401
    heads = hf_config.num_attention_heads
    kv_heads = getattr(hf_config, "num_key_value_heads", None) or heads
    if heads % size or kv_heads % size:
        raise UnsupportedModel(
            f"{heads} heads over {kv_heads} KV heads cannot be divided among {size} ranks"
        )
