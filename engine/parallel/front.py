"""The device of a group: rank 0 tells, every rank computes, rank 0 has the logits.

To T the group is one `Device` and keeps its promises: what is zeroed is zeroed on every rank when
`zero_blocks` returns. Where one rank fails in a step the others would wait for it forever, so a
failure that a single device survives is the end of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.device import Computation, Device, StepInput, StepOutput
from engine.errors import RankLost
from engine.kv_cache import KVPool
from engine.parallel.group import Group
from engine.parallel.orders import Order, encode_blocks, tell_step


@dataclass(frozen=True)
class GroupModel:
    """A model whose parts the ranks hold (`engine.device.Computation`); on rank 0."""

    own: Computation
    group: Group

    def on(self, pool: KVPool, *, max_rows: int, max_logit_rows: int) -> Device:
        """See `Computation`; the other ranks make pools of as many blocks."""
        self.group.tell([Order.ON, pool.blocks, pool.block_size, max_rows, max_logit_rows])
        own = self.own.on(pool, max_rows=max_rows, max_logit_rows=max_logit_rows)
        return Front(own, self.group, pool)


class Front:
    """The group as one `Device`."""

    def __init__(self, own: Device, group: Group, pool: KVPool) -> None:
        self._own, self._group = own, group
        self._pool = pool

    def step(self, batch: StepInput) -> StepOutput:
        """See `Device`.

        Raises:
            RankLost: some rank could not do its part.
        """
        tell_step(self._group, batch)
        try:
            return self._own.step(batch)
        except Exception as error:
            raise RankLost("a step failed on a rank") from error

    def finish_step(self) -> None:
        """See `Device`."""
        self._group.tell([Order.FINISH])
        self._own.finish_step()

    def copy_blocks(self, source: Sequence[int], target: Sequence[int]) -> None:
        """See `Device`."""
        self._group.tell([Order.COPY, *encode_blocks(source), *encode_blocks(target)])
        self._own.copy_blocks(source, target)

    def zero_blocks(self, blocks: Sequence[int]) -> None:
        """See `Device`; returns when every rank has done it."""
        self._group.tell([Order.ZERO, *encode_blocks(blocks)])
        self._own.zero_blocks(blocks)
        self._group.meet()
