"""One sequence's units while they are outside: arriving, at rest, or ready to return.

    leave    the channel's opener writes a unit into private memory, pending
    cool     it is sealed under the stay's key, and the private memory wiped
    warm     it is opened again, shortly before its return, so that the channel can seal it ahead

`cool` and `warm` are a worker's, in this order; whoever ends the stay waits for both. A key is one
stay's: it is overwritten when the sequence is back, done, aborted or failed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from engine.offload.queue import Queue
from engine.transfer.blocks import BlockStore
from engine.transfer.buffers import Buffers
from engine.transfer.errors import DiskFull, PoolFull, SessionFaulted, TransferError
from engine.transfer.sealer import Sealer
from engine.transfer.store import RequestStore


class Stay:
    """The units, in order. The thread that serves asks; a worker does what nobody waits for."""

    def __init__(
        self,
        rest: RequestStore,
        names: Sequence[int],
        sizes: Sequence[int],
        *,
        store: BlockStore,
        buffers: Buffers,
        ready: Queue,
    ) -> None:
        """Reserve private memory for the units to arrive in.

        Args:
            rest: where they stay, under a key of their own.
            names: their ids on the way.
            sizes: their bytes.
            store: the host's blocks.
            buffers: private memory.
            ready: which units can be sealed ahead.
        """
        self._rest, self.names, self._sizes = rest, list(names), list(sizes)
        self._store, self._buffers, self._ready = store, buffers, ready
        self._held: dict[int, memoryview] = {}
        self._arrivals: dict[int, Future[int]] = {}
        self._tasks: list[threading.Event] = []
        self._asked: set[int] = set()
        self._lock = threading.Lock()
        self._ended = False
        self.kept = len(self.names)
        """So many units, the first ones, are there."""
        self.lost = False
        """The session ended while they were on the way, through no fault of theirs."""
        self.fault: TransferError | None = None
        """What was refused, in flight or at rest."""
        for number in range(len(self.names)):
            self._store.reserve(self.names[number], self._take(number))

    def arrived(self, name: int, arrival: Future[int]) -> None:
        """A unit's frame was taken, and is being opened."""
        self._arrivals[name] = arrival

    def cool_all(self, worker: Sealer) -> None:
        """Let every unit be put to rest, once it is open."""
        for number in range(len(self.names)):
            self._order(worker, number, self._cool)

    def warm(self, worker: Sealer, numbers: Sequence[int], then: Callable[[int], None]) -> None:
        """Let units be made ready; `then` is told each one's name. Those that are stay so."""
        for number in numbers:
            if number not in self._asked and number < self.kept:
                self._asked.add(number)
                self._order(worker, number, lambda each: self._warm(each, then))

    def wait(self) -> None:
        """Wait until nothing is being done with these units."""
        for done in self._tasks:
            done.wait()
        self._tasks.clear()

    def discard(self, number: int) -> None:
        """Wipe a unit's private memory, if it has some."""
        self._store.remove(self.names[number])
        self._ready.forget(self.names[number])
        if number in self._held:
            self._buffers.wipe(self._held.pop(number))

    def stop(self) -> None:
        """Overwrite the key; what is on its way arrives, and is wiped there."""
        self._ended = True
        with self._lock:
            self._rest.destroy()
        self.wait()

    def wipe(self) -> None:
        """Wipe what is ready; nothing is left on return."""
        for number in range(len(self.names)):
            self.discard(number)

    def _order(self, worker: Sealer, number: int, work: Callable[[int], None]) -> None:
        done = threading.Event()

        def task() -> None:
            try:
                with self._lock:
                    work(number)
            finally:
                done.set()

        self._tasks.append(done)
        if not worker.submit(task):
            task()

    def _cool(self, number: int) -> None:
        name = self.names[number]
        try:
            if name in self._arrivals:
                self._arrivals[name].result()
            data = self._store.read(name)
            if number < self.kept and not self._ended:
                self._rest.put(number, 1, data)
        except (PoolFull, DiskFull, OSError):
            self.kept = min(self.kept, number)  # the others are computed again
        except SessionFaulted:
            self.lost = True
        except TransferError as refused:
            self.fault = self.fault or refused
        finally:
            self.discard(number)

    def _warm(self, number: int, then: Callable[[int], None]) -> None:
        if self._ended:
            return
        buffer = self._take(number)
        try:
            self._rest.get(number, buffer)
        except TransferError as refused:
            self.fault = self.fault or refused
            self.discard(number)
            return
        self._store.add(self.names[number], buffer)
        self._ready.add(self.names[number])
        then(self.names[number])

    def _take(self, number: int) -> memoryview:
        self._held[number] = self._buffers.take(self._sizes[number])
        return self._held[number]
