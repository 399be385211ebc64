"""The numbers that U must not know: ChaCha20 under a key that never leaves T.

Nothing here is torch's: the state of a general generator can be worked out from what it drew, and
what T draws decides which rows are opened.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KEY_SIZE = 32
BOUND = 127
"""Secrets are whole numbers in [-BOUND, BOUND]: exact in bfloat16, and unlike signs alone they do
not cancel on a pair of equal errors."""

_CONSTANTS = np.frombuffer(b"expand 32-byte k", dtype="<u4")
_QUARTERS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
_ROUNDS = 20
_BLOCK = 64
_BLOCKS_AT_ONCE = 1 << 12

Words = NDArray[np.uint32]


def chacha20(key: bytes, nonce: bytes, counter: int, size: int) -> bytes:
    """Return key stream (RFC 8439, section 2.4), `size` bytes from block `counter` on."""
    last = counter - (-size // _BLOCK)
    if last > 1 << 32:
        raise ValueError("the counter of a key stream would begin again")
    parts = [
        _blocks(key, nonce, np.arange(first, min(first + _BLOCKS_AT_ONCE, last), dtype=np.uint32))
        for first in range(counter, last, _BLOCKS_AT_ONCE)
    ]
    return b"".join(parts)[:size]


def _blocks(key: bytes, nonce: bytes, counters: Words) -> bytes:
    """RFC 8439, section 2.3, for many counters at once: state is [16 words, blocks]."""
    words = [*_CONSTANTS, *np.frombuffer(key, "<u4"), 0, *np.frombuffer(nonce, "<u4")]
    start = np.repeat(np.array(words, np.uint32)[:, None], len(counters), axis=1)
    start[12] = counters
    state = start.copy()
    for _ in range(_ROUNDS // 2):
        for quarter in _QUARTERS:
            _quarter_round(state, *quarter)
    return (state + start).T.astype("<u4").tobytes()


def _quarter_round(state: Words, a: int, b: int, c: int, d: int) -> None:
    """RFC 8439, section 2.1."""
    for to, by, turned, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[to] += state[by]
        mixed = state[turned] ^ state[to]
        state[turned] = (mixed << bits) | (mixed >> (32 - bits))


class Secrets:
    """Secret numbers by label. The same label gives the same numbers until `rekey`."""

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        """Draw a key from `random`."""
        self._random = random
        self._key = random(KEY_SIZE)

    def rekey(self) -> None:
        """Draw another key: whatever was made of the old one is to be made again."""
        self._key = self._random(KEY_SIZE)

    def integers(self, label: bytes, count: int) -> Tensor:
        """Return int8 [count], each of the 255 numbers in [-BOUND, BOUND] as likely."""
        # One byte in 256 is passed over; four times as many, and 64, are not among `count`.
        found = self._stream(label, count + count // 64 + 64)
        found = found[found != 2 * BOUND + 1]
        return torch.from_numpy((found[:count].astype(np.int16) - BOUND).astype(np.int8))

    def wide(self, label: bytes, count: int, reach: int) -> Tensor:
        """Return int64 [count], whole numbers in [-reach, reach].

        No number is more likely than another by more than `reach` in 2^62.
        """
        words = self._stream(label, 8 * count).view("<u8")
        return torch.from_numpy((words % np.uint64(2 * reach + 1)).astype(np.int64) - reach)

    def subset(self, label: bytes, population: int, size: int) -> list[int]:
        """Return `size` different numbers below `population`, ascending, all sets as likely."""
        keys = self._stream(label, 8 * population).view("<u8")
        return sorted(np.argsort(keys, kind="stable")[:size].tolist())

    def _stream(self, label: bytes, size: int) -> NDArray[np.uint8]:
        own = hmac.digest(self._key, label, hashlib.sha256)
        return np.frombuffer(chacha20(own, bytes(12), 0, size), np.uint8)
