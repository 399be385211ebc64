"""A filter of system calls for this process, refusing all that is not listed.

What is refused fails with EPERM, so that a library that tries takes its own way out. A thread that
was started before keeps its freedom: whoever confines himself has none yet.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable

from server.errors import HygieneError
from server.system_calls import ABSENT, CONDITIONS, MACHINES, Condition, numbers

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

# Classic BPF (linux/filter.h): load a word of seccomp_data, compare, return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32_BIT = 0x40000000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _instruction(code: int, value: int, on_true: int = 0, on_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, on_true, on_false, value)


_REFUSE = _instruction(_RETURN, _ERRNO | errno.EPERM)


def make_filter(machine: str, names: Iterable[str]) -> bytes:
    """Return the program that allows the calls named, on a machine.

    Raises:
        HygieneError: the machine is not known.
    """
    if machine not in MACHINES:
        raise HygieneError("the system calls of this machine are not known")
    calls = numbers(names, machine)
    plain = sorted(calls[name] for name in calls if name not in CONDITIONS | dict.fromkeys(ABSENT))
    program = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_EQUAL, MACHINES[machine][0], on_true=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
        _instruction(_AT_LEAST, _X32_BIT, on_false=1),
        _REFUSE,
    ]
    for index, number in enumerate(plain):
        # Forward to ALLOW, which stands behind the comparisons that are left and a jump over it.
        program.append(_instruction(_EQUAL, number, on_true=len(plain) - index))
    # Always true for a number, hence always a jump over ALLOW.
    program += [_instruction(_AT_LEAST, 0, on_true=1), _instruction(_RETURN, _ALLOW)]
    for name in sorted(calls.keys() & CONDITIONS.keys()):
        program += _conditional(calls[name], CONDITIONS[name]())
    for name in sorted(calls.keys() & ABSENT):
        program += _answered(calls[name], [_instruction(_RETURN, _ERRNO | errno.ENOSYS)])
    return b"".join([*program, _REFUSE])


def _conditional(number: int, condition: Condition) -> list[bytes]:
    # The low word: the kernel, too, reads these arguments as 32 bits wide.
    checks = [_instruction(_LOAD, _ARGUMENTS_AT + 8 * condition.place)]
    tests = [(_EQUAL, value) for value in condition.values]
    tests += [(_ANY_BIT, condition.bit)] if condition.bit else []
    for index, (code, value) in enumerate(tests):
        checks.append(_instruction(code, value, on_true=len(tests) - index))
    return _answered(number, [*checks, _REFUSE, _instruction(_RETURN, _ALLOW)])


def _answered(number: int, answer: list[bytes]) -> list[bytes]:
    return [_instruction(_EQUAL, number, on_false=len(answer)), *answer]


def install(names: Iterable[str]) -> None:
    """Confine this process to the calls named, for good. `hardening.harden` came before.

    Raises:
        HygieneError: the kernel has no seccomp filters, or the machine is not known.
    """
    program = make_filter(platform.machine(), names)
    handed = _Program(len(program) // 8, program)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(handed), 0, 0) != 0:
        raise HygieneError("the kernel refused the filter of system calls")
