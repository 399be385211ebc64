"""What a capsule may still ask of the kernel: a seccomp filter, refusing all that is not listed.

A capsule parses what strangers send, in clear. It gets its memory, its three sockets, memfds for
its slots and the clock; it cannot open a file, make a socket, start a program, a process or a
thread, look at another process, or undo this. What is refused fails with EPERM, so that a library
that tries takes its own way out, and the request becomes an internal error at worst.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

from server.errors import HygieneError

_X86_64 = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
    "rt_sigreturn": 15, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32,
    "nanosleep": 35, "getpid": 39, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47,
    "exit": 60, "fcntl": 72, "ftruncate": 77, "gettimeofday": 96, "getppid": 110,
    "sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
    "clock_gettime": 228, "clock_nanosleep": 230, "exit_group": 231, "tgkill": 234,
    "newfstatat": 262, "pselect6": 270, "ppoll": 271, "set_robust_list": 273, "getrandom": 318,
    "memfd_create": 319, "rseq": 334,
}  # fmt: skip

_AARCH64 = {
    "dup": 23, "fcntl": 25, "ftruncate": 46, "close": 57, "lseek": 62, "read": 63, "write": 64,
    "pselect6": 72, "ppoll": 73, "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94,
    "futex": 98, "set_robust_list": 99, "nanosleep": 101, "clock_gettime": 113,
    "clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124, "tgkill": 131,
    "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139,
    "gettimeofday": 169, "getpid": 172, "getppid": 173, "gettid": 178, "sendto": 206,
    "recvfrom": 207, "sendmsg": 211, "recvmsg": 212, "brk": 214, "munmap": 215, "mremap": 216,
    "mmap": 222, "mprotect": 226, "madvise": 233, "getrandom": 278, "memfd_create": 279,
    "rseq": 293,
}  # fmt: skip

_MACHINES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}
"""Each machine's audit architecture and system call numbers, as in the kernel's headers."""

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

# Classic BPF (linux/filter.h): load a word of seccomp_data, compare, return.
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_X32_BIT = 0x40000000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _instruction(code: int, value: int, on_true: int = 0, on_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, on_true, on_false, value)


def _filter(machine: str) -> bytes:
    if machine not in _MACHINES:
        raise HygieneError("the system calls of this machine are not known")
    architecture, numbers = _MACHINES[machine]
    program = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_EQUAL, architecture, on_true=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
        _instruction(_AT_LEAST, _X32_BIT, on_true=len(numbers)),
    ]
    for index, number in enumerate(sorted(numbers.values())):
        # Forward to ALLOW, which stands behind the comparisons that are left and the refusal.
        program.append(_instruction(_EQUAL, number, on_true=len(numbers) - index))
    program.append(_instruction(_RETURN, _ERRNO | errno.EPERM))
    program.append(_instruction(_RETURN, _ALLOW))
    return b"".join(program)


def confine() -> None:
    """Confine this process, for good. `hardening.harden` must have been called before.

    Raises:
        HygieneError: the kernel has no seccomp filters, or the machine is not known.
    """
    program = _filter(platform.machine())
    handed = _Program(len(program) // 8, program)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(handed), 0, 0) != 0:
        raise HygieneError("the kernel refused the filter of system calls")
