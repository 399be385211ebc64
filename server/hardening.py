"""What every role does to itself before it does anything else: no core, no tracer, no new powers.

Second lines, all of them: root on the same kernel passes them. The image without a root login is
what keeps root out, and the quote is what shows it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path

from server.errors import HygieneError

_PR_SET_PDEATHSIG = 1
_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39


def _prctl(option: int, value: int = 0) -> int:
    result: int = ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    if result < 0:
        raise HygieneError(f"prctl {option} was refused")
    return result


def harden() -> None:
    """No core dump, no ptrace or /proc/PID/mem by the same user, no privilege through exec.

    Raises:
        HygieneError: the kernel refused one of them.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        raise HygieneError("core dumps cannot be switched off") from error
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if _prctl(_PR_GET_DUMPABLE) != 0 or _prctl(_PR_GET_NO_NEW_PRIVS) != 1:
        raise HygieneError("the kernel did not keep what it was told")
    os.umask(0o077)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; `parent` is the parent's pid.

    Raises:
        HygieneError: the kernel refused, or the parent has gone already.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise HygieneError("the parent ended before its child began")


def ensure_single_thread() -> None:
    """Make sure that a fork copies all there is of this process.

    Raises:
        HygieneError: a thread was started before, whose locks a child would inherit for ever.
    """
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise HygieneError("threads were started before the roles were forked")
