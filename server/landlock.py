"""Landlock: which files this process may still read, and which TCP ports it may use.

Nothing may be written, made, removed or started, whatever the rights of its user. Where the kernel
has scopes, neither an abstract unix socket nor a signal reaches a process outside. A kernel
without Landlock, or with an older one, gives less; `confine` says how much it gave.
(Documentation/userspace-api/landlock.rst of the kernel.)
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from server.errors import HygieneError

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every machine
_VERSION = 1
_BENEATH, _PORT = 1, 2
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_BIND, _CONNECT = 1 << 0, 1 << 1
_ABSTRACT_SOCKET, _SIGNAL = 1 << 0, 1 << 1

_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights over files each version knows; later ones as many as the last here."""
_NET_SINCE, _SCOPED_SINCE = 4, 6


@dataclass(frozen=True)
class Access:
    """What is left: files and folders to read, ports to bind and to connect to."""

    read: tuple[Path, ...] = ()
    bind: tuple[int, ...] = ()
    connect: tuple[int, ...] = ()


def version() -> int:
    """Return the version of Landlock that the kernel offers; 0 if there is none."""
    return max(0, _call(_CREATE, None, 0, _VERSION))


def confine(access: Access) -> int:
    """Leave this process, and what it starts, no more than `access`; return the version used.

    Paths that do not exist are left out. `hardening.harden` must have been called before.

    Raises:
        HygieneError: the kernel has Landlock, and refused.
    """
    offered = version()
    if not offered:
        return 0
    ruleset = _must(_call(_CREATE, *_sized(_handled(offered)), 0))
    try:
        for path in access.read:
            _allow_reading(ruleset, path)
        if offered >= _NET_SINCE:
            _allow_ports(ruleset, access.bind, _BIND)
            _allow_ports(ruleset, access.connect, _CONNECT)
        _must(_call(_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)
    return offered


def _handled(offered: int) -> bytes:
    files = (1 << _FILE_RIGHTS.get(offered, max(_FILE_RIGHTS.values()))) - 1
    net = _BIND | _CONNECT if offered >= _NET_SINCE else 0
    scoped = _ABSTRACT_SOCKET | _SIGNAL if offered >= _SCOPED_SINCE else 0
    return struct.pack("=QQQ", files, net, scoped)[: 24 if scoped else 16 if net else 8]


def _allow_reading(ruleset: int, path: Path) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no leave
    try:
        folder = stat.S_ISDIR(os.fstat(beneath).st_mode)
        rights = _READ_FILE | (_READ_DIR if folder else 0)
        _must(_call(_ADD, ruleset, _BENEATH, struct.pack("=Qi", rights, beneath), 0))
    finally:
        os.close(beneath)


def _allow_ports(ruleset: int, ports: Iterable[int], right: int) -> None:
    for port in ports:
        _must(_call(_ADD, ruleset, _PORT, struct.pack("=QQ", right, port), 0))


def _sized(attributes: bytes) -> tuple[bytes, int]:
    return attributes, len(attributes)


def _call(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    wide = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    result: int = libc.syscall(ctypes.c_long(number), *wide)
    return result


def _must(result: int) -> int:
    if result < 0:
        raise HygieneError("the kernel refused a rule of Landlock")
    return result
