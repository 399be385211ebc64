"""A rank's part of a model: what becomes of each layer while a checkpoint is loaded."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from engine.config import EngineConfig
from engine.device import Computation, TorchModel
from engine.errors import UnsupportedModel
from engine.kv_cache import LayerShape
from engine.parallel.group import Group
from engine.parallel.pipeline import PipelinePart
from engine.parallel.sequence import SequencePart
from engine.parallel.tensor import TensorPart


class Part(Protocol):
    """One way to divide a model among ranks, as one of them sees it."""

    def layer(self, layer: Any) -> AbstractContextManager[None]:  # noqa: ANN401
        """Keep this rank's part of a layer that the stock pass has left.

        Inside the context the layer can be called, by every rank at once.
        """
        ...

    def rest(self, model: Any) -> None:  # noqa: ANN401 - one class an architecture
        """Keep this rank's part of what belongs to no layer."""
        ...

    def shapes(self, shapes: list[LayerShape]) -> list[LayerShape]:
        """Return what this rank's pool keeps of the layers, given what they ask for."""
        ...

    def computation(self, model: TorchModel) -> Computation:
        """Return how this rank computes its part."""
        ...


def part_of(config: EngineConfig, hf_config: Any, group: Group) -> Part:  # noqa: ANN401
    """Return this rank's part of a model.

    Raises:
        UnsupportedModel: the model cannot be divided so.
    """
    if config.tensor_parallel > 1:
        return TensorPart(hf_config, group)
    if config.pipeline_parallel > 1:
        return PipelinePart(hf_config, group)
    if config.device.partition(":")[0] == "cuda":
        raise UnsupportedModel("prompts are divided by positions on CPUs only, as yet")
    return SequencePart(group)
