"""The bar that shows a person how far the workers are with loading their model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn


def loaded(log: Path) -> int:
    """Return how many per cent of its model a worker has read, by the events in its log."""
    percent = 0
    for line in log.read_bytes().splitlines() if log.exists() else ():
        if b'"ModelLoading"' in line or b'"EngineReady"' in line:
            percent = _percent(line, percent)
    return percent


def _percent(line: bytes, before: int) -> int:
    try:
        event = json.loads(line)
    except ValueError:  # a line that is not whole yet
        return before
    return 100 if event["event"] == "EngineReady" else int(event["percent"])


class LoadingBar:
    """A bar on a terminal, for as long as it is entered; nothing at all on anything else."""

    def __init__(self, console: Console, logs: Sequence[Path]) -> None:
        """Take the console, and the log of each worker."""
        self._logs = logs
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        self._progress = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._progress.add_task("loading the model", total=100)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def look(self) -> None:
        """Draw how far the slowest of them is."""
        if not self._progress.disable:
            self._progress.update(self._task, completed=min(map(loaded, self._logs), default=0))
