"""The line that `sottovoce up` keeps alive: what the parties are doing now, in numbers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx
from rich.console import Console
from rich.status import Status

PAUSE_S = 2.0
"""Between two looks at the proxy's metrics."""

_SAMPLE = re.compile(r'^sottovoce_proxy_(\w+)(?:\{status="(\d+)"\})? (\d+)$', re.MULTILINE)


def numbers(metrics: str) -> dict[str, int]:
    """Return nodes, tokens, answers and errors of the proxy's metrics."""
    found = dict.fromkeys(("nodes", "tokens", "answers", "errors"), 0)
    for name, status, value in _SAMPLE.findall(metrics):
        if name == "answers_total":
            found["answers" if status.startswith("2") else "errors"] += int(value)
        elif name in found:
            found[name] = int(value)
    return found


def sentence(found: dict[str, int]) -> str:
    """Say the numbers."""
    text = f"{found['nodes']} node(s) verified, {found['tokens']} tokens"
    text += f", {found['answers']} answers"
    return text + (f", {found['errors']} errors" if found["errors"] else "")


class StatusLine:
    """The line, for as long as it is entered.

    On a terminal it is redrawn in place. Elsewhere a plain line is printed when a number of nodes
    changes: a log should say what happened, not that time passes.
    """

    def __init__(
        self,
        console: Console,
        proxy_url: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._url = f"{proxy_url}/metrics"
        self._clock = clock
        self._next = 0.0
        self._nodes: int | None = None
        self._first: dict[str, int] | None = None
        self._looks = 0
        self._status = Status("", console=console) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def look(self) -> None:
        """Ask for the numbers, if it is time to, and show them."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + PAUSE_S
        try:
            metrics = httpx.get(self._url, timeout=1.0, trust_env=False).text
        except httpx.HTTPError:
            self._show(None)
        else:
            self._show(self._since(numbers(metrics)))

    def _since(self, found: dict[str, int]) -> dict[str, int]:
        """Count answers from the first look on, without those to this line's own looks."""
        if self._first is None:
            self._first = found
        counted = {
            "answers": found["answers"] - self._first["answers"] - self._looks,
            "errors": found["errors"] - self._first["errors"],
        }
        self._looks += 1
        # A proxy that was started again counts from zero.
        return {**found, **{name: max(0, number) for name, number in counted.items()}}

    def _show(self, found: dict[str, int] | None) -> None:
        text = "the proxy does not answer" if found is None else sentence(found)
        if self._status is not None:
            self._status.update(f"[dim]{text}[/]")
            return
        nodes = None if found is None else found["nodes"]
        if nodes != self._nodes:
            self._console.print(f"sottovoce: {text}", markup=False, highlight=False)
        self._nodes = nodes
