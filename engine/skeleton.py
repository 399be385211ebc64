"""A transformers model without weights, and the weights that find their way into it.

`streamed` fills a model while transformers runs its own forward pass: each layer's weights are
read when the pass comes to it, and handed to whoever packs them when it has left. So the reference
that a converted model is compared with is computed on all layers, with the bytes that are served,
and nothing but one layer and what is packed is in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from engine.errors import ModelFiles, UnsupportedModel

AfterLayer = Callable[[Any, tuple[Any, ...], dict[str, Any]], None]
"""Called with a layer, and the arguments it was called with, when the pass has left it."""


def model_class(hf_config: Any) -> Any:  # noqa: ANN401 - one class an architecture
    """Return transformers' causal model for a configuration.

    Raises:
        UnsupportedModel: it has none.
    """
    try:
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(hf_config)]
    except KeyError:
        raise UnsupportedModel("transformers has no causal model for this configuration") from None


def build(hf_config: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401
    """Build a model whose parameters have shapes and no memory; buffers are real."""
    with _without_memory():
        model = model_class(hf_config)._from_config(  # noqa: SLF001 - what AutoModel calls
            hf_config, dtype=dtype, attn_implementation="eager"
        )
    return model.eval().requires_grad_(False)


@contextmanager
def _without_memory() -> Iterator[None]:
    """Put every parameter made meanwhile on the meta device, before it is initialised."""
    register = nn.Module.register_parameter

    def on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        # A parameter that is there already stays itself: tied ones are set a second time.
        if param is not None and not param.is_meta:
            param = nn.Parameter(param.to("meta"), requires_grad=False)
        register(self, name, param)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


class Places:
    """Where the parameters of a model without weights are, and what a checkpoint calls them."""

    def __init__(self, model: Any, stored: dict[str, tuple[int, ...]]) -> None:  # noqa: ANN401
        """Match parameters with stored tensors.

        Args:
            model: built by `build`.
            stored: shapes by the names of the checkpoint.

        Raises:
            ModelFiles: a tensor is there in another shape.
        """
        self._model = model
        self._prefix = f"{model.base_model_prefix}."
        self._spots: dict[int, list[tuple[nn.Module, str]]] = defaultdict(list)
        self._source: dict[int, str] = {}
        self._names: dict[int, str] = {}
        self._parameters = list(model.parameters())  # kept, so that no other object has their ids
        for path, module in model.named_modules():
            for name, parameter in module._parameters.items():  # noqa: SLF001 - aliases too
                if parameter is None:
                    continue
                self._spots[id(parameter)].append((module, name))
                full = f"{path}.{name}" if path else name
                source = self._stored_name(full, stored)
                if source is None or id(parameter) in self._source:
                    continue
                if stored[source] != tuple(parameter.shape):
                    raise ModelFiles("the safetensors hold a tensor in another shape")
                self._source[id(parameter)] = source
                self._names[id(parameter)] = full

    def _stored_name(self, name: str, stored: dict[str, tuple[int, ...]]) -> str | None:
        candidates = (name, name.removeprefix(self._prefix), self._prefix + name)
        return next((candidate for candidate in candidates if candidate in stored), None)

    @property
    def complete(self) -> bool:
        """Whether every parameter has a tensor of its own name."""
        persistent = {name for name, _ in self._model.named_buffers()}
        return set(self._spots) == set(self._source) and not (
            persistent & set(self._model.state_dict())
        )

    def names(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters that have a tensor, by the model's own names."""
        parameters = dict(self._model.named_parameters(remove_duplicate=False))
        return {name: tuple(parameters[name].shape) for name in self._names.values()}

    def fill(
        self,
        module: nn.Module,
        weight: Callable[[str, str], Tensor],
        *,
        recurse: bool,
    ) -> None:
        """Give a module's parameters their memory, and whoever shares one of them.

        Args:
            module: of the model.
            weight: returns a tensor, given the model's and the checkpoint's name of it.
            recurse: whether also those of modules within.
        """
        for parameter in list(module.parameters(recurse=recurse)):
            key = id(parameter)
            if not parameter.is_meta or key not in self._source:
                continue
            filled = nn.Parameter(weight(self._names[key], self._source[key]), requires_grad=False)
            for owner, name in self._spots[key]:
                owner._parameters[name] = filled  # noqa: SLF001 - registering would unshare it


def layers_of(model: Any) -> list[Any]:  # noqa: ANN401
    """Return a model's layers, in order; none if it has no list of as many as are configured."""
    count = getattr(model.config, "num_hidden_layers", None)
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    return []


@contextmanager
def streamed(
    model: Any,  # noqa: ANN401
    fill: Callable[[nn.Module, bool], None],
    after_layer: AfterLayer,
) -> Iterator[None]:
    """Let a forward pass meanwhile fill each module before it is used, and tell of each layer.

    Args:
        model: a model, perhaps without weights.
        fill: gives a module its weights; the flag says whether also the modules within.
        after_layer: see there.
    """
    layers = layers_of(model)
    inside = {id(module) for layer in layers for module in layer.modules()}
    hooks = []
    for layer in layers:
        hooks.append(layer.register_forward_pre_hook(lambda module, _: fill(module, True)))
        hooks.append(
            layer.register_forward_hook(
                lambda module, args, kwargs, _: after_layer(module, args, kwargs), with_kwargs=True
            )
        )
    hooks += [
        module.register_forward_pre_hook(lambda module, _: fill(module, False))
        for module in model.modules()
        if id(module) not in inside
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
