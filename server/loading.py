"""How far the loading of a model is: events in the log, or a bar where the log is a terminal.

Nothing but a number goes into either.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from server.logs import ModelLoading, emit, log_descriptor

STEP = 10
"""Per cent of the model between two events."""
_WIDTH = 40


def loading_told() -> Callable[[int], None]:
    """Return what is to be told how many per cent of a model's bytes were read."""
    descriptor = log_descriptor()
    if os.isatty(descriptor):
        return lambda percent: _write(descriptor, bar(percent))
    return _events()


def bar(percent: int) -> str:
    """Return what draws a bar over the one before it; the last ends its line."""
    filled = _WIDTH * percent // 100
    end = "\n" if percent >= 100 else ""
    return f"\rloading the model {'━' * filled}{' ' * (_WIDTH - filled)} {percent:3} %{end}"


def _events() -> Callable[[int], None]:
    told = 0

    def tell(percent: int) -> None:
        nonlocal told
        if percent // STEP > told:
            told = percent // STEP
            emit(ModelLoading(percent))

    return tell


def _write(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode())
