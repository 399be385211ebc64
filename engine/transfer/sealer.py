"""Who runs the work that nobody waits for: a thread, or (in tests) whoever asks for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol

Task = Callable[[], None]
"""Must not raise: whoever hands it in takes care of what goes wrong."""


class Sealer(Protocol):
    """Runs tasks, in the order in which they came."""

    def submit(self, task: Task) -> bool:
        """Take a task, or return False: there is too much to do already."""

    def close(self) -> None:
        """End, after all that was taken is done."""


class InlineSealer:
    """Runs a task when it comes: deterministic."""

    def submit(self, task: Task) -> bool:
        """See `Sealer`."""
        task()
        return True

    def close(self) -> None:
        """See `Sealer`."""


class WorkerSealer:
    """One thread behind a bounded queue."""

    def __init__(self, bound: int = 256, name: str = "sealer") -> None:
        """Start the thread; at most `bound` tasks wait."""
        self._tasks: queue.Queue[Task | None] = queue.Queue(bound)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, task: Task) -> bool:
        """See `Sealer`."""
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """See `Sealer`."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
