"""What this machine can do at most: read memory, and multiply bfloat16. Measured, never looked up.

Each figure is the best of several ways to do the same with a given number of threads, because a
limit that one of them exceeds is none.
"""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_TRIES = 3
_HUGE_PAGE = 2 << 20
_ABSENT = 1
"""A byte that the buffer of zeros does not hold: a search for it reads all of it."""
_MATMULS = ((512, 896, 4864), (512, 4864, 896), (1024, 2048, 2048))
"""Rows, inputs, outputs: shapes of prompts at the sizes measured here, and a square one."""


class ReadBandwidth:
    """Reads a buffer far larger than any cache, in huge pages, with the threads of an engine."""

    def __init__(self, threads: int, size: int = 1 << 30) -> None:
        self._size = size // (threads * _HUGE_PAGE) * threads * _HUGE_PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = mmap.mmap(-1, self._size + _HUGE_PAGE, flags=flags)
        self._memory.madvise(mmap.MADV_HUGEPAGE)
        whole = torch.frombuffer(self._memory, dtype=torch.uint8)
        start = -whole.data_ptr() % _HUGE_PAGE
        # Written once, or every page would be the kernel's one page of zeros.
        self._bytes = whole[start : start + self._size].zero_()
        self._pool = ThreadPoolExecutor(threads)
        self._parts = self._bytes.chunk(threads)

    def measure(self) -> float:
        """Return the bytes a second of the best way."""
        ways = (self._search, self._add, self._compare)
        return self._size / _shortest(*ways)

    def _search(self) -> None:
        """By the C library's search for a byte: nothing but loads, without the GIL."""
        list(self._pool.map(_search, self._parts))

    def _add(self) -> None:
        self._bytes.view(torch.int64).sum()

    def _compare(self) -> None:
        self._bytes.view(torch.int8).amax()


class MatmulRate:
    """Multiplies bfloat16 matrices through torch, with the threads torch is set to."""

    def __init__(self) -> None:
        self._pairs = [
            (torch.randn(m, k).bfloat16(), torch.randn(n, k).bfloat16()) for m, k, n in _MATMULS
        ]

    @torch.inference_mode()
    def measure(self) -> float:
        """Return the floating point operations a second of the best shape."""
        return max(_operations(a, b) / _shortest(_product(a, b)) for a, b in self._pairs)


def _operations(a: torch.Tensor, b: torch.Tensor) -> int:
    return 2 * a.shape[0] * a.shape[1] * b.shape[0]


def _product(a: torch.Tensor, b: torch.Tensor) -> Callable[[], object]:
    return lambda: torch.nn.functional.linear(a, b)


def _shortest(*ways: Callable[[], object]) -> float:
    return min(_timed(way) for way in ways for _ in range(_TRIES))


def _timed(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def _search(part: torch.Tensor) -> None:
    _memchr(part.data_ptr(), _ABSENT, part.numel())


_memchr = ctypes.CDLL(None).memchr
_memchr.restype = ctypes.c_void_p
_memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
