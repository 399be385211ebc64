"""A torch model of which a few layers at a time are on the device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.device import TorchModel
from engine.errors import UnsupportedModel
from engine.skeleton import layers_of
from engine.streaming.layer import Layer
from engine.streaming.ring import Ring


@dataclass(frozen=True)
class StreamedModel:
    """The model, which computes as before, and the ring that its layers pass through."""

    computation: TorchModel
    ring: Ring


def streamed(computation: TorchModel, **ring: Any) -> StreamedModel:  # noqa: ANN401 - `Ring`'s
    """Let a model's layers pass through a ring; its other weights stay where they are.

    Raises:
        UnsupportedModel: it has no list of layers.
        EngineError: its weights cannot be moved, or the ring is none.
    """
    modules = layers_of(computation.model)
    if not modules:
        raise UnsupportedModel("the model has no list of layers to stream")
    made = Ring([Layer(module) for module in modules], **ring)
    for index, module in enumerate(modules):
        module.register_forward_pre_hook(partial(_enter, made, index))
        module.register_forward_hook(partial(_leave, made, index))
    return StreamedModel(computation, made)


def _enter(ring: Ring, index: int, *_: object) -> None:
    ring.enter(index)


def _leave(ring: Ring, index: int, *_: object) -> None:
    ring.leave(index)
