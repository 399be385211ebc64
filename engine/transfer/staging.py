"""Frames made before they are asked for, in private memory.

An entry goes queued -> sealing -> sealed, and is then taken (to be released, once) or dropped.
What is dropped is zeroised and has never left: only for that reason may another content be sealed
under its sequence number.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from enum import Enum
from itertools import takewhile

from engine.aead import TAG, AeadError
from engine.transfer.blocks import BlockStore
from engine.transfer.buffers import Buffers
from engine.transfer.errors import BlockUnusable, TransferError
from engine.transfer.forms import Form
from engine.transfer.frame import Frame
from engine.transfer.sealer import Sealer


class Progress(Enum):
    """How far an entry is."""

    QUEUED = "queued"
    SEALING = "sealing"
    SEALED = "sealed"
    DROPPED = "dropped"


class Entry:
    """A block that is being sealed under a sequence number."""

    def __init__(self, number: int, block: int, version: int, buffer: memoryview) -> None:
        """Begin in the queue."""
        self.number, self.block, self.version, self.buffer = number, block, version, buffer
        self.progress = Progress.QUEUED
        self.ready = threading.Event()
        self.frame: Frame | None = None
        """None until it is sealed, and for good if the block changed meanwhile."""
        self.seconds = 0.0
        """Of a core, for sealing; less what was waited for."""


class Staging:
    """The entries of one sender. One thread asks; the sealer's thread works."""

    def __init__(self, form: Form, store: BlockStore, sealer: Sealer, buffers: Buffers) -> None:
        """Begin with nothing staged."""
        self._form, self._store, self._sealer, self._buffers = form, store, sealer, buffers
        self._numbers: dict[int, Entry] = {}
        self._blocks: dict[int, deque[Entry]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many entries are staged."""
        return len(self._numbers)

    def __contains__(self, number: int) -> bool:
        """Whether an entry holds this sequence number."""
        return number in self._numbers

    @property
    def lowest(self) -> int | None:
        """The lowest sequence number that an entry holds."""
        return next(iter(self._numbers), None)  # they are staged in rising order

    @property
    def highest(self) -> int:
        """The highest sequence number that an entry holds; -1 if there is none."""
        return next(reversed(self._numbers), -1)

    def count_above(self, number: int) -> int:
        """How many entries hold higher sequence numbers: those that a batch did not pass over."""
        above = takewhile(lambda held: held > number, reversed(self._numbers))
        return sum(1 for _ in above)

    def missing(self, wanted: Iterable[int]) -> list[int]:
        """Return which of these are not staged yet, each as often as it is wanted."""
        staged = Counter({block: len(entries) for block, entries in self._blocks.items()})
        missing = []
        for block in wanted:
            staged[block] -= 1
            if staged[block] < 0:
                missing.append(block)
        return missing

    def stage(self, number: int, block: int) -> bool:
        """Begin to seal a block; False if it cannot be sealed now, or the queue is full."""
        try:
            version, data = self._store.snapshot(block)
        except BlockUnusable:
            return False
        entry = Entry(number, block, version, self._buffers.take(len(data) + TAG))
        self._numbers[number] = entry
        self._blocks.setdefault(block, deque()).append(entry)
        if self._sealer.submit(lambda: self._work(entry)):
            return True
        self._drop(self._remove(entry))
        return False

    def take(self, block: int, version: int) -> Entry | None:
        """Return the earliest entry of a block, sealed; it is staged no more.

        None if there is none, or only such as hold another version; those are dropped.
        """
        entries = self._blocks.get(block)
        while entries:
            entry = self._remove(entries[0])
            self._finish(entry)
            if entry.frame is not None and entry.version == version:
                return entry
            self._drop(entry)
        return None

    def drop(self, numbers: Iterable[int]) -> None:
        """Drop the entries that hold these sequence numbers, if any."""
        for number in numbers:
            if number in self._numbers:
                self._drop(self._remove(self._numbers[number]))

    def drop_blocks(self, blocks: Iterable[int]) -> None:
        """Drop all entries of these blocks."""
        for block in blocks:
            while entries := self._blocks.get(block):
                self._drop(self._remove(entries[0]))

    def keep(self, blocks: Iterable[int]) -> None:
        """Drop the entries of all other blocks."""
        self.drop_blocks(self._blocks.keys() - set(blocks))

    def straighten(self, wanted: Iterable[int]) -> None:
        """Drop what stands out of the wanted order: passing over it would drop it all the same."""
        turns: Counter[int] = Counter()
        last, out = -1, []
        straight = True
        for block in wanted:
            entries = self._blocks.get(block, ())
            entry = entries[turns[block]] if turns[block] < len(entries) else None
            turns[block] += 1
            if entry is None:
                straight = straight and not self._store.clean(block)
            elif straight and entry.number > last:
                last = entry.number
            else:
                straight = False
                out.append(entry.number)
        self.drop(out)

    def relinquish(self) -> None:
        """Drop everything."""
        self.drop(list(self._numbers))

    def _remove(self, entry: Entry) -> Entry:
        del self._numbers[entry.number]
        entries = self._blocks[entry.block]
        entries.remove(entry)
        if not entries:
            del self._blocks[entry.block]
        return entry

    def _work(self, entry: Entry) -> None:
        """The sealer's part."""
        if self._advance(entry, Progress.QUEUED, Progress.SEALING):
            self._seal(entry)
            if not self._advance(entry, Progress.SEALING, Progress.SEALED):
                self._buffers.wipe(entry.buffer)  # dropped meanwhile
            entry.ready.set()

    def _finish(self, entry: Entry) -> None:
        """Seal what nobody has begun to seal; wait for what somebody has."""
        if self._advance(entry, Progress.QUEUED, Progress.SEALING):
            self._seal(entry)
            self._advance(entry, Progress.SEALING, Progress.SEALED)
            entry.seconds = 0.0
        elif entry.progress is Progress.SEALING:
            began = time.perf_counter()
            entry.ready.wait()
            entry.seconds -= time.perf_counter() - began

    def _seal(self, entry: Entry) -> None:
        """Leave the frame None if the block, or the session, is not what it was."""
        began = time.thread_time()
        try:
            version, data = self._store.snapshot(entry.block)
            if version == entry.version:
                entry.frame = self._form.seal(
                    entry.number, 0, entry.block, version, data, entry.buffer
                )
        except (TransferError, AeadError):
            return
        entry.seconds = time.thread_time() - began

    def _drop(self, entry: Entry) -> None:
        """Zeroise, off the path of whoever asks: it costs about what sealing does."""
        with self._lock:
            before, entry.progress = entry.progress, Progress.DROPPED
        entry.frame = None
        if before is Progress.SEALED:
            wipe = _wiping(self._buffers, entry.buffer)
            if not self._sealer.submit(wipe):
                wipe()
        elif before is Progress.QUEUED:
            self._buffers.give(entry.buffer)

    def _advance(self, entry: Entry, before: Progress, after: Progress) -> bool:
        with self._lock:
            if entry.progress is not before:
                return False
            entry.progress = after
            return True


def _wiping(buffers: Buffers, buffer: memoryview) -> Callable[[], None]:
    return lambda: buffers.wipe(buffer)
