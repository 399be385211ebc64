"""Which node lists the log lacks: that of this epoch, and of the next shortly before it."""

from __future__ import annotations

from transparency.current import Current
from transparency.leaf import NodeListLeaf


def list_lead(epoch_seconds: int) -> float:
    """How long before its epoch a list is published: a sixth of the epoch, at most 30 s."""
    return min(epoch_seconds / 6, 30.0)


class DueLists:
    """Makes the lists of one log, from what stands in it."""

    def __init__(self, current: Current, *, epoch_seconds: int, min_nodes: int) -> None:
        """Take what stands in the log, how long an epoch is, and the nodes a first list needs."""
        self._current = current
        self._epoch_seconds = epoch_seconds
        self._min_nodes = min_nodes

    def at(self, now: float, size: int) -> list[NodeListLeaf]:
        """Return the lists that a log of `size` entries lacks; nodes run out meanwhile go."""
        epoch = int(now) // self._epoch_seconds
        self._current.forget(int(now))
        soon = int(now + list_lead(self._epoch_seconds)) // self._epoch_seconds
        lists = [
            self._list(e, now, size)
            for e in sorted({epoch, soon})
            if self._current.list_index(e) is None
        ]
        enough = 1 if self._is_listing(epoch) else max(1, self._min_nodes)
        return [body for body in lists if len(body.nodes) >= enough]

    def _list(self, epoch: int, now: float, size: int) -> NodeListLeaf:
        start = epoch * self._epoch_seconds
        end, since = start + self._epoch_seconds, now - self._epoch_seconds
        rows = self._current.rows(end, renewed_since=since)
        statements = self._current.statements_digest(size, start)
        return NodeListLeaf(epoch, start, end, rows, statements)

    def _is_listing(self, epoch: int) -> bool:
        """Whether lists follow each other without a gap: then fewer nodes than at first will do."""
        return any(self._current.list_index(e) is not None for e in (epoch - 1, epoch))
