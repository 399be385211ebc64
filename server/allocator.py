"""Memory that is overwritten when it is freed, and the check that it really is.

CPython's own arenas keep freed strings readable, and so does glibc's per-thread cache. With
`PYTHONMALLOC=malloc` every object comes from glibc, `glibc.malloc.perturb` makes `free` overwrite,
and `glibc.malloc.tcache_count=0` removes the cache in which chunks would be parked unscrubbed.
All three are read when the process starts, hence the re-execution, which also drops every variable
that nobody measured (`server.environment`). Another libc, or a preloaded
allocator, silently ignores them, hence the check: it allocates, frees and looks.
"""

from __future__ import annotations

import ctypes
import os
import sys

from server import environment
from server.errors import HygieneError

_SIZES = (72, 200, 600, 1000, 4000, 60000)
"""Bytes; glibc treats fast bins (to 128), the cache (to 1032) and larger chunks differently."""

_LINKS = 32
"""Bytes at the head of a freed chunk where glibc keeps its list pointers."""

_TAIL = 8
"""Bytes at the end of a chunk that glibc shares with the next one's header and does not overwrite:
whoever frees a secret there must overwrite it first. (An ASCII string leaves 7 letters at most.)"""

_PATTERN = b"\x5c"
_RUN = _PATTERN * 8
"""What counts as a survivor. One byte alone may be part of a pointer that was written since."""


def ensure_scrubbing() -> None:
    """Start this very command again under the measured environment, unless it already runs so.

    Must be called before threads exist and anything is opened that must be closed in order.

    Raises:
        HygieneError: the allocator was asked for and still does not scrub.
    """
    given = environment.given()
    wanted = environment.measured(given)
    if given != wanted:
        os.execve(sys.executable, sys.orig_argv, wanted)  # noqa: S606 - ourselves, again
    check_scrubbing()


def check_scrubbing() -> None:
    """Allocate, free, and look at the freed memory: in C, and as a Python object.

    Raises:
        HygieneError: a pattern survived its release.
    """
    if any(_survives_in_c(size) or _survives_in_python(size) for size in _SIZES):
        raise HygieneError("the allocator does not overwrite what it frees")


def _survives_in_c(size: int) -> bool:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    seen = ctypes.create_string_buffer(size)
    address = libc.malloc(size)
    guard = libc.malloc(64)  # keeps the chunk from merging into the top, which may be given back
    ctypes.memset(address, _PATTERN[0], size)
    libc.free(address)
    ctypes.memmove(seen, address, size)  # into memory allocated before: nothing may land on it
    libc.free(guard)
    return _RUN in seen.raw[_LINKS : size - _TAIL]


def _survives_in_python(size: int) -> bool:
    seen = ctypes.create_string_buffer(size)
    held = _PATTERN * size
    guard = bytes(64)
    address = id(held) + bytes.__basicsize__ - 1
    del held
    ctypes.memmove(seen, address, size)
    del guard
    return _RUN in seen.raw[: size - _TAIL]
