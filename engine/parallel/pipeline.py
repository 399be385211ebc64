"""Pipeline parallel: each rank has a range of the layers, and the KV of those.

The model code stays whole: a layer of another rank hands on what it is given; the one before a
rank's first waits for the rank before, the one after its last sends to the rank behind. The first
rank embeds, the last has the head and sends rank 0 its logits. One step is under way at a time: a
model is divided for its size, not for speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from engine.device import Computation, Device, StepInput, StepOutput, TorchModel
from engine.errors import UnsupportedModel
from engine.kv_cache import KVPool, LayerShape
from engine.parallel.group import Group


class PipelinePart:
    """One rank's layers (`engine.parallel.part.Part`)."""

    def __init__(self, hf_config: Any, group: Group) -> None:  # noqa: ANN401
        """Choose the layers: each rank as many, the first ones one more if there is a rest.

        Raises:
            UnsupportedModel: fewer layers than ranks.
        """
        count = hf_config.num_hidden_layers
        if count < group.size:
            raise UnsupportedModel(f"{count} layers cannot be divided among {group.size} ranks")
        self._group = group
        self._own = stages(count, group.size)[group.rank]
        self._next = 0

    @contextmanager
    def layer(self, layer: Any) -> Iterator[None]:  # noqa: ANN401
        """See `Part`; a layer of another rank is let go on leaving."""
        yield
        index, self._next = self._next, self._next + 1
        if index in self._own:
            return
        layer.to("meta")
        if index == self._own.start - 1:
            layer.forward = self._receive
        elif index == self._own.stop:
            layer.forward = self._send
        else:
            layer.forward = _hand_on

    def rest(self, model: Any) -> None:  # noqa: ANN401
        """See `Part`: the head is the last rank's, the embeddings are the first's."""
        head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
        if self._group.rank:
            width, dtype = embeddings.weight.shape[1], embeddings.weight.dtype
            _let_go(embeddings)
            embeddings.forward = lambda ids: torch.zeros(
                *ids.shape, width, dtype=dtype, device=ids.device
            )
        if self._group.rank != self._group.size - 1:
            _let_go(head)

    def shapes(self, shapes: list[LayerShape]) -> list[LayerShape]:
        """See `Part`: nothing is kept of another rank's layer."""
        return [
            shape if index in self._own else replace(shape, heads=0)
            for index, shape in enumerate(shapes)
        ]

    def computation(self, model: TorchModel) -> Computation:
        """See `Part`."""
        return StageModel(model, self._group)

    def _receive(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        received = torch.empty_like(hidden_states, memory_format=torch.contiguous_format)
        self._group.receive(received, self._group.rank - 1)
        return received

    def _send(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        self._group.send(hidden_states, self._group.rank + 1)
        return hidden_states


def stages(layers: int, ranks: int) -> list[range]:
    """Return each rank's layers."""
    ends = [-(-layers * rank // ranks) for rank in range(ranks + 1)]
    return [range(start, stop) for start, stop in pairwise(ends)]


@dataclass(frozen=True)
class StageModel:
    """One rank's layers of a model (`engine.device.Computation`)."""

    model: TorchModel
    group: Group

    def on(self, pool: KVPool, *, max_rows: int, max_logit_rows: int) -> Device:
        """See `Computation`."""
        own = self.model.on(pool, max_rows=max_rows, max_logit_rows=max_logit_rows)
        rows = max_logit_rows if self.group.leads else 0
        return StageDevice(own, self.group, torch.zeros(rows, self.model.vocab_size))


class StageDevice:
    """A `Device` that computes one rank's layers; rank 0 gets the last one's logits."""

    def __init__(self, own: Device, group: Group, logits: Tensor) -> None:
        self._own = own
        self._group = group
        self._logits = logits
        self._used_logits = 0

    def step(self, batch: StepInput) -> StepOutput:
        """See `Device`; on ranks in between nothing comes out."""
        wanted, last = len(batch.logit_rows), self._group.size - 1
        if self._group.rank == last:
            output = self._own.step(batch)
            if wanted:
                self._group.send(output.logits, 0)
            return output
        output = self._own.step(replace(batch, logit_rows=()))
        if not self._group.leads or not wanted:
            return output
        self._used_logits = wanted
        logits = self._logits[:wanted]
        self._group.receive(logits, last)
        return StepOutput(logits)

    def finish_step(self) -> None:
        """See `Device`."""
        self._own.finish_step()
        self._logits[: self._used_logits].zero_()

    def copy_blocks(self, source: Sequence[int], target: Sequence[int]) -> None:
        """See `Device`."""
        self._own.copy_blocks(source, target)

    def zero_blocks(self, blocks: Sequence[int]) -> None:
        """See `Device`."""
        self._own.zero_blocks(blocks)


def _hand_on(hidden_states: Tensor, *_: object, **__: object) -> Tensor:
    return hidden_states


def _let_go(module: Any) -> None:  # noqa: ANN401
    """Let go of a module's own weights; who shares one keeps it."""
    for name, parameter in module.named_parameters(recurse=False):
        module.register_parameter(name, torch.nn.Parameter(parameter.to("meta"), False))
