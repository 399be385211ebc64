"""Who owns which block of the KV pool. Bookkeeping only: numbers, no memory.

Free blocks are kept as runs of consecutive numbers. A sequence whose blocks are one run is read
as a view of the pool; any other set of blocks has to be gathered at every step.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from engine.errors import OutOfBlocks


class BlockAllocator:
    """Hands out the block numbers 0 .. count - 1, each to one owner at a time."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._runs: list[tuple[int, int]] = [(0, count)] if count else []  # sorted [start, stop)

    @property
    def free(self) -> int:
        """Blocks that nobody owns."""
        return sum(stop - start for start, stop in self._runs)

    def allocate(self, needed: int, wanted: int) -> list[int]:
        """Return at least `needed` and at most `wanted` blocks, as one run if there is one.

        Raises:
            OutOfBlocks: fewer than `needed` are free; nothing was taken.
        """
        fitting = [run for run in self._runs if run[1] - run[0] >= wanted]
        if fitting:
            start, _ = min(fitting, key=lambda run: run[1] - run[0])
            return self._take(start, wanted)
        if self.free < needed:
            raise OutOfBlocks("the KV pool has too few free blocks")
        start, stop = max(self._runs, key=lambda run: run[1] - run[0])
        if stop - start >= needed:
            return self._take(start, stop - start)
        return self._pieces(needed)

    def extend(self, blocks: list[int], more: int) -> None:
        """Append `more` blocks to `blocks`, the adjacent ones if they are free.

        Raises:
            OutOfBlocks: too few are free; nothing was taken.
        """
        if self.free < more:
            raise OutOfBlocks("the KV pool has too few free blocks")
        if blocks:
            adjacent = blocks[-1] + 1
            at = bisect_left(self._runs, (adjacent, adjacent))
            if at < len(self._runs) and self._runs[at][0] == adjacent:
                start, stop = self._runs[at]
                taken = self._take(start, min(more, stop - start))
                blocks.extend(taken)
                more -= len(taken)
        if more:
            blocks.extend(self.allocate(more, more))

    def release(self, blocks: Iterable[int]) -> None:
        """Take `blocks` back. Their memory must have been zeroed before.

        Raises:
            ValueError: a block is free already, or is none of this pool.
        """
        for block in sorted(blocks):
            self._give_back(block)

    def _pieces(self, needed: int) -> list[int]:
        taken: list[int] = []
        while len(taken) < needed:
            start, stop = max(self._runs, key=lambda run: run[1] - run[0])
            taken += self._take(start, min(needed - len(taken), stop - start))
        return taken

    def _take(self, start: int, count: int) -> list[int]:
        at = bisect_left(self._runs, (start, start))
        _, stop = self._runs[at]
        self._runs[at : at + 1] = [(start + count, stop)] if start + count < stop else []
        return list(range(start, start + count))

    def _give_back(self, block: int) -> None:
        at = bisect_left(self._runs, (block, block))
        after = self._runs[at] if at < len(self._runs) else (self.count, self.count)
        before = self._runs[at - 1] if at else (0, 0)
        if not (before[1] <= block < after[0]) or block < 0:
            raise ValueError("a block is released that nobody owns")
        start, stop, first, last = block, block + 1, at, at
        if at and before[1] == block:
            start, first = before[0], at - 1
        if at < len(self._runs) and after[0] == block + 1:
            stop, last = after[1], at + 1
        self._runs[first:last] = [(start, stop)]
