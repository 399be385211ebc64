"""The keys of one direction, and what their counters mean.

A frame's place in its direction is its *sequence number* n, counted from a (re)start and never
used twice. n stands for counter n mod `limit` under the key of epoch n div `limit`:

    secret(0) is agreed;  key(e) | secret(e + 1) = HKDF-SHA-256(secret(e), info), 64 bytes
    info = "sottovoce transfer v1" | direction u32 | e u64

so that near the end of its counters a key makes room for the next one, and no counter wraps. Both
ends do so without a word, and what is past cannot be derived again.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Callable

from engine.aead import (
    KEY,
    TAG,
    Aead,
    Buffer,
    TagMismatch,
    aes_256_gcm,
    hkdf_sha256,
    zeroise,
)
from engine.transfer.errors import ChannelClosed, FrameRefused, SecretReused
from engine.transfer.frame import Frame, header, nonce

LIMIT = 1 << 32
"""Frames a key. With frames of 1 MiB that is 2^48 blocks of AES, which an observer tells from
random ones with an advantage of 2^-33 (NIST SP 800-38D leaves the sum to the user)."""
_LABEL = b"sottovoce transfer v1"
_SUFFIX = struct.Struct(">IQ")


class Session:
    """One direction under one secret at a time. Threads may share it."""

    def __init__(
        self,
        secret: Buffer,
        direction: int,
        *,
        limit: int = LIMIT,
        aead: Callable[[Buffer], Aead] = aes_256_gcm,
    ) -> None:
        """Begin.

        Args:
            secret: 32 bytes that both ends have, and nobody else.
            direction: TO_DEVICE or TO_HOST.
            limit: frames a key.
            aead: makes an AEAD of a key.
        """
        self._direction, self._limit, self._aead = direction, limit, aead
        self._seen: set[bytes] = set()
        self._keys: dict[int, Aead] = {}
        self._lock = threading.Lock()
        self._secret: bytearray | None = None
        self._epochs = 0
        self.restart(secret)

    def restart(self, secret: Buffer) -> None:
        """Begin again at 0 under another secret, as after a restart of the device.

        Raises:
            SecretReused: this session had the secret before; its counters would repeat.
        """
        digest = hashlib.sha256(memoryview(secret)).digest()
        if digest in self._seen:
            raise SecretReused("a session restarts under a fresh secret only")
        self._seen.add(digest)
        self.close()
        self._secret, self._epochs = bytearray(memoryview(secret)), 0

    def counter(self, number: int) -> int:
        """Return the counter of a sequence number."""
        return number % self._limit

    def seal(  # noqa: PLR0917 - a header's fields, in its order
        self, number: int, flags: int, block: int, version: int, data: Buffer, out: memoryview
    ) -> Frame:
        """Seal into `out`, 16 bytes longer than the data, as the frame of a sequence number."""
        counter, length = number % self._limit, len(out) - TAG
        associated = header(counter, flags, block, version, length)
        self.key(number).seal_into(self.nonce(number), data, associated, out)
        return Frame(counter, flags, block, version, length, out)

    def open(self, number: int, frame: Frame, out: Buffer) -> None:
        """Open into `out`, as long as the content.

        Raises:
            FrameRefused: it was not sealed as the frame of this sequence number.
        """
        at = self.nonce(number)
        try:
            self.key(number).open_into(at, frame.body, frame.header, out)
        except TagMismatch:
            raise FrameRefused("not authentic") from None

    def passed(self, number: int) -> None:
        """Nothing before this sequence number is needed any more: erase earlier keys."""
        epoch = number // self._limit
        if min(self._keys, default=epoch) < epoch:
            with self._lock:
                for old in [each for each in self._keys if each < epoch]:
                    self._keys.pop(old).close()

    def close(self) -> None:
        """Erase the secret and all keys."""
        with self._lock:
            if self._secret is not None:
                zeroise(self._secret)
            self._secret = None
            for key in self._keys.values():
                key.close()
            self._keys.clear()

    def nonce(self, number: int) -> bytes:
        """Return the nonce of a sequence number."""
        return nonce(self._direction, number % self._limit)

    def key(self, number: int) -> Aead:
        """Return the key of a sequence number.

        Raises:
            ChannelClosed: it was erased, or the session closed.
        """
        epoch = number // self._limit
        key = self._keys.get(epoch)
        return self._derive(epoch) if key is None else key

    def _derive(self, epoch: int) -> Aead:
        """Derive keys as far as this epoch; earlier ones are gone for good."""
        with self._lock:
            while self._epochs <= epoch:
                if self._secret is None:
                    raise ChannelClosed("the session has no secret")
                info = _LABEL + _SUFFIX.pack(self._direction, self._epochs)
                both = hkdf_sha256(self._secret, info, length=2 * KEY)
                self._keys[self._epochs] = self._aead(both[:KEY])
                self._secret[:] = both[KEY:]
                zeroise(both)
                self._epochs += 1
            if epoch not in self._keys:
                raise ChannelClosed("the key of this epoch is erased")
            return self._keys[epoch]
