"""Blocks of data with versions: every write is noticed (a write barrier in software).

    reserved --begin--> pending --arrived--> clean --write--> clean, the next version
                           └--poison--> poisoned
A version names one content: it rises when a write begins and again when it ends, so that whatever
was sealed before or meanwhile is stale. Readers of a pending block wait; nobody else does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from engine.aead import Buffer, zeroise
from engine.transfer.errors import BlockBusy, BlockEmpty, BlockPoisoned, BlockUnusable, UnknownBlock


class State(Enum):
    """What may be done with a block."""

    EMPTY = "empty"
    PENDING = "pending"
    CLEAN = "clean"
    POISONED = "poisoned"


@dataclass
class _Block:
    data: memoryview
    version: int
    state: State
    writers: int = 0
    arrival: Future[int] | None = field(default=None)


class BlockStore:
    """The blocks of one side, by id. Its methods may be called by any thread."""

    def __init__(self) -> None:
        """Begin without blocks."""
        self._blocks: dict[int, _Block] = {}
        self._lock = threading.Lock()

    def __contains__(self, block: int) -> bool:
        """Whether there is a block of this id."""
        return block in self._blocks

    def add(self, block: int, data: Buffer) -> None:
        """Take a block and the memory that it lies in; its version is 1.

        Raises:
            BlockUnusable: the id is taken.
        """
        self._insert(block, _Block(memoryview(data).cast("B"), 1, State.CLEAN))

    def reserve(self, block: int, data: Buffer) -> None:
        """Take writable memory for a block that will arrive; its version is 0.

        Raises:
            BlockUnusable: the id is taken.
        """
        self._insert(block, _Block(memoryview(data).cast("B"), 0, State.EMPTY))

    def remove(self, block: int) -> None:
        """Forget a block. Its memory is the caller's again, as it is."""
        with self._lock:
            self._blocks.pop(block, None)

    def version(self, block: int) -> int:
        """Return the version of the content there is.

        Raises:
            UnknownBlock: there is none of this id.
        """
        return self._get(block).version

    def size(self, block: int) -> int:
        """Return a block's bytes.

        Raises:
            UnknownBlock: there is none of this id.
        """
        return len(self._get(block).data)

    def state(self, block: int) -> State:
        """Return what may be done with a block.

        Raises:
            UnknownBlock: there is none of this id.
        """
        return self._get(block).state

    def clean(self, block: int) -> bool:
        """Whether there is a block of this id that could be sealed now."""
        entry = self._blocks.get(block)
        return entry is not None and entry.state is State.CLEAN and not entry.writers

    @contextmanager
    def write(self, block: int) -> Iterator[memoryview]:
        """Give the memory for writing; the version rises before and after.

        Raises:
            BlockUnusable: nothing can be written there now.
        """
        entry = self._usable(block, timeout=None)
        with self._lock:
            entry.version, entry.writers = entry.version + 1, entry.writers + 1
        try:
            yield entry.data
        finally:
            with self._lock:
                entry.version, entry.writers = entry.version + 1, entry.writers - 1

    def read(self, block: int, timeout: float | None = None) -> memoryview:
        """Return the content, once it has arrived.

        Raises:
            BlockUnusable: it has not, or was refused.
            TimeoutError: it did not arrive in time.
        """
        return self._usable(block, timeout).data.toreadonly()

    def snapshot(self, block: int) -> tuple[int, memoryview]:
        """Return version and content for sealing. The content is that version's while it stays.

        Raises:
            BlockUnusable: it is being written, pending, empty or poisoned.
        """
        with self._lock:
            entry = self._get(block)
            if entry.writers or entry.state is State.PENDING:
                raise BlockBusy("the block is being written")
            _readable(entry)
            return entry.version, entry.data

    def begin(self, block: int, version: int, length: int) -> tuple[memoryview, Future[int]]:
        """A content is arriving: readers wait from now on.

        Raises:
            BlockUnusable: the block takes no such content; nothing has changed.
        """
        with self._lock:
            entry = self._get(block)
            if entry.writers or entry.state is State.PENDING:
                raise BlockBusy("the block is being written")
            if entry.state is State.POISONED or len(entry.data) != length:
                raise BlockUnusable("the block does not take this content")
            if version < max(1, entry.version):
                raise BlockUnusable("an older version than there is")
            entry.state, entry.arrival = State.PENDING, Future()
            return entry.data, entry.arrival

    def arrived(self, block: int, version: int) -> None:
        """The content has arrived and is authentic."""
        with self._lock:
            entry = self._get(block)
            entry.state, entry.version = State.CLEAN, version
        if entry.arrival is not None:
            entry.arrival.set_result(block)

    def poison(self, block: int, error: Exception | None = None) -> None:
        """What arrived was refused: zeroise the memory and fail whoever waits. Unknown ids pass."""
        with self._lock:
            entry = self._blocks.get(block)
            if entry is None:
                return
            entry.state = State.POISONED
        if not entry.data.readonly:
            zeroise(entry.data)
        if entry.arrival is not None and not entry.arrival.done():
            entry.arrival.set_exception(error or BlockPoisoned("the block was poisoned"))

    def _insert(self, block: int, entry: _Block) -> None:
        with self._lock:
            if block in self._blocks:
                raise BlockUnusable("the id is taken")
            self._blocks[block] = entry

    def _get(self, block: int) -> _Block:
        try:
            return self._blocks[block]
        except KeyError:
            raise UnknownBlock("no such block") from None

    def _usable(self, block: int, timeout: float | None) -> _Block:
        entry = self._get(block)
        if entry.state is State.PENDING and entry.arrival is not None:
            entry.arrival.exception(timeout)  # whatever came of it shows in the state
        return _readable(entry)


def _readable(entry: _Block) -> _Block:
    if entry.state is State.EMPTY:
        raise BlockEmpty("nothing has arrived")
    if entry.state is State.POISONED:
        raise BlockPoisoned("what arrived was refused")
    return entry
