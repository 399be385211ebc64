"""One result of a benchmark. Imports nothing that is not Python's own: GPU machines have little.

A case that a goal names has the goal's name, then ` @ ` and its parameters; every other begins
with `sweep `.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

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


def line(
    case: str,
    unit: str,
    measured: Sequence[float],
    *,
    emulated: bool = False,
    device: str | None = None,
) -> Line:
    """Return the line of a case from its measurements, at least one, made on this machine.

    `device` names what was measured where that is not the processor.
    """
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
        device or machine(),
        commit(),
        emulated,
    )


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
