"""The numbers of system calls, as in the kernel's headers, and which of them who may make.

What a list here leaves out is refused. Calls whose arguments decide stand in `CONDITIONS` as well.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None),
    "fstat": (5, 80), "lstat": (6, None), "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "ioctl": (16, 29), "pread64": (17, 67),
    "access": (21, None), "select": (23, None), "sched_yield": (24, 124), "mremap": (25, 216),
    "madvise": (28, 233), "dup": (32, 23), "nanosleep": (35, 101), "getpid": (39, 172),
    "socket": (41, 198), "connect": (42, 203), "sendto": (44, 206), "recvfrom": (45, 207),
    "sendmsg": (46, 211), "recvmsg": (47, 212), "shutdown": (48, 210), "bind": (49, 200),
    "listen": (50, 201), "getsockname": (51, 204), "getpeername": (52, 205),
    "socketpair": (53, 199), "setsockopt": (54, 208), "getsockopt": (55, 209), "clone": (56, 220),
    "exit": (60, 93), "uname": (63, 160), "fcntl": (72, 25), "ftruncate": (77, 46),
    "getcwd": (79, 17), "readlink": (89, None), "gettimeofday": (96, 169), "sysinfo": (99, 179),
    "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177),
    "getppid": (110, 173), "sigaltstack": (131, 132), "arch_prctl": (158, None),
    "gettid": (186, 178), "futex": (202, 98), "sched_setaffinity": (203, 122),
    "sched_getaffinity": (204, 123), "getdents64": (217, 61), "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "epoll_wait": (232, None),
    "epoll_ctl": (233, 21), "tgkill": (234, 131), "mbind": (237, 235), "openat": (257, 56),
    "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48), "pselect6": (270, 72),
    "ppoll": (271, 73), "set_robust_list": (273, 99), "epoll_pwait": (281, 22),
    "accept4": (288, 242), "eventfd2": (290, 19), "epoll_create1": (291, 20),
    "prlimit64": (302, 261), "getcpu": (309, 168), "getrandom": (318, 278),
    "memfd_create": (319, 279), "membarrier": (324, 283), "statx": (332, 291), "rseq": (334, 293),
    "clone3": (435, 435), "faccessat2": (439, 439),
}  # fmt: skip
"""Of x86-64 and of aarch64; None where a machine has no such call."""

MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Each machine's audit architecture, and its place in `NUMBERS`."""

CAPSULE = frozenset(
    """
    read write close fstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask
    rt_sigreturn select sched_yield mremap madvise dup nanosleep getpid sendto recvfrom sendmsg
    recvmsg exit fcntl ftruncate gettimeofday getppid sigaltstack gettid futex sched_getaffinity
    clock_gettime clock_nanosleep exit_group tgkill newfstatat pselect6 ppoll set_robust_list
    getrandom memfd_create rseq
    """.split()  # noqa: SIM905
)
"""Memory, its three sockets, slots, and the clock."""

_EVENTS = frozenset(
    """
    epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2 ioctl getsockname getsockopt
    """.split()  # noqa: SIM905
)
_CONNECTIONS = frozenset({"accept4", "setsockopt", "getpeername", "shutdown"})
_FILES = frozenset(
    """
    open openat stat lstat access faccessat faccessat2 readlink readlinkat statx getcwd getdents64
    pread64 uname getuid getgid geteuid getegid sysinfo
    """.split()  # noqa: SIM905
)
_THREADS = frozenset({"clone", "clone3"})
_OWN_SOCKETS = frozenset({"socket", "socketpair", "connect", "bind", "listen"})

KEEPER = CAPSULE - {"memfd_create", "ftruncate"} | _EVENTS
"""Those it serves: it never takes another."""

DOOR = KEEPER | _CONNECTIONS

FRONT = CAPSULE | _EVENTS | _CONNECTIONS | _FILES | _THREADS | _OWN_SOCKETS
"""Its port, the issuer and the store; a thread that looks up names; files as Landlock says."""

ENGINE = CAPSULE | _EVENTS | _FILES | _THREADS | frozenset(
    {"sched_setaffinity", "mbind", "getcpu", "membarrier", "arch_prctl", "prlimit64"}
)  # fmt: skip
"""Its model and its libraries, as Landlock says, and threads that compute. No socket of its own."""

OTHER_ENGINE = ENGINE | FRONT
"""What asks another engine: as our engine, and its way there."""


@dataclass(frozen=True)
class Condition:
    """A call is allowed if the argument at `place` is one of `values`, or has `bit` set."""

    place: int
    values: Sequence[int] = ()
    bit: int = 0


CLONE_THREAD = 0x10000
_FIONCLEX, _FIOCLEX, _FIONBIO = 0x5450, 0x5451, 0x5421
_F_DUPFD_CLOEXEC, _F_ADD_SEALS, _F_GET_SEALS = 1030, 1033, 1034

CONDITIONS: dict[str, Callable[[], Condition]] = {
    "clone": lambda: Condition(0, bit=CLONE_THREAD),  # no process
    "ioctl": lambda: Condition(1, (_FIONBIO, _FIOCLEX, _FIONCLEX)),  # no device, no terminal
    # Not F_SETOWN: it has the kernel send signals in one's name.
    "fcntl": lambda: Condition(1, (0, 1, 2, 3, 4, _F_DUPFD_CLOEXEC, _F_ADD_SEALS, _F_GET_SEALS)),
    "socket": lambda: Condition(0, (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)),
    "socketpair": lambda: Condition(0, (socket.AF_UNIX,)),
    "tgkill": lambda: Condition(0, (os.getpid(),)),  # itself, to abort
    "prlimit64": lambda: Condition(2, (0,)),  # reads limits, sets none
}
"""Asked for where the filter is made: by the process that it is for."""

ABSENT = frozenset({"clone3"})
"""Answered as if the kernel had no such call: its flags lie in memory, where no filter can look,
and libc then uses `clone`."""


def numbers(names: Iterable[str], machine: str) -> dict[str, int]:
    """Return the numbers of those calls that a machine of `MACHINES` has."""
    place = MACHINES[machine][1]
    found = ((name, NUMBERS[name][place]) for name in names)
    return {name: number for name, number in found if number is not None}
