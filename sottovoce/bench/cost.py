"""Processor time of processes, as the kernel counts it (proc(5))."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessorTime:
    """Seconds of user and system time: of a process, and of its children that were waited for."""

    own: float
    children: float


def processor_time(pid: int) -> ProcessorTime:
    """Read the processor time of a process, to a hundredth of a second.

    Raises:
        OSError: there is no such process.
    """
    # The name, in parentheses, may hold anything; the numbers follow it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, children_user, children_system = (int(field) for field in fields[11:15])
    return ProcessorTime((user + system) / _TICKS, (children_user + children_system) / _TICKS)


def roles_of(worker_log: Path) -> dict[str, int]:
    """Return the process of each role, from the events that a worker logged."""
    roles = {}
    for text in worker_log.read_text().splitlines():
        if '"role"' in text and '"pid"' in text:
            event = json.loads(text)
            roles[event["role"]] = event["pid"]
    return roles
