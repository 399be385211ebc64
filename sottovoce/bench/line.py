"""One result of a benchmark, for programs and for people.

A case that a goal names has the goal's name, then ` @ ` and its parameters; every other begins
with `sweep `.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.table import Table

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Line:
    """A result: the median of `samples` measurements, and the quartiles around it."""

    case: str
    value: float
    unit: str
    samples: int
    spread: tuple[float, float]
    machine: str
    commit: str
    emulated: bool

    def encode(self) -> str:
        """Encode as one JSON object on one line."""
        return json.dumps(asdict(self), separators=(",", ":"))


def line(case: str, unit: str, measured: Sequence[float], *, emulated: bool = False) -> Line:
    """Return the line of a case from its measurements, at least one."""
    if len(measured) > 1:
        low, middle, high = statistics.quantiles(measured, n=4, method="inclusive")
    else:
        low = middle = high = measured[0]
    return Line(
        case,
        _rounded(middle),
        unit,
        len(measured),
        (_rounded(low), _rounded(high)),
        machine(),
        commit(),
        emulated,
    )


def table(lines: Iterable[Line]) -> Table:
    """Return the lines as a table for a person."""
    shown = Table("case", "median", "unit", "quartiles", "samples", box=None, padding=(0, 2))
    for each in lines:
        low, high = each.spread
        shown.add_row(
            each.case, f"{each.value:g}", each.unit, f"{low:g} .. {high:g}", str(each.samples)
        )
    return shown


def show(lines: Iterable[Line], console: Console, *, as_json: bool) -> None:
    """Print each line as soon as it is measured, or all of them as a table at the end."""
    if as_json:
        for each in lines:
            print(each.encode(), flush=True)
    else:
        console.print(table(lines))


@cache
def machine() -> str:
    """Name the processor, how many of it, and the system."""
    model = platform.machine()
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            model = text.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {platform.system()} {platform.release()}"


@cache
def commit() -> str:
    """Return the commit measured, with `+` if files differ; "unknown" outside a checkout."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, check=True, text=True)  # noqa: S603 - fixed
    return done.stdout.strip()


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
