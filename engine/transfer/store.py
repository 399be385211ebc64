"""Sealed data at rest, in host memory or in a file: under a key that dies with its request.

A request's key is HKDF-SHA-256(boot secret, "sottovoce store v1" | request id), with a random id
of 16 bytes that is never shown. A block's nonce is block u64 | version u32, its associated data
request id | block u64 | version u32 | length u64; a version is sealed once. When the request is
done, aborted or failed, its key is overwritten, and what lies in memory, on the disk or in
somebody's copy of it cannot be opened any more.

A file is unlinked before anything is written to it: no name, nothing left after a crash.
"""

from __future__ import annotations

import errno
import os
import secrets
import struct
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from engine.aead import KEY, TAG, Buffer, TagMismatch, aes_256_gcm, bytes_of, hkdf_sha256, zeroise
from engine.transfer.errors import (
    BlockPoisoned,
    BlockUnusable,
    ChannelClosed,
    DiskFull,
    KeyDestroyed,
    PoolFull,
    UnknownBlock,
)

_LABEL = b"sottovoce store v1"
_ID = 16
_NONCE = struct.Struct(">QI")
_ASSOCIATED = struct.Struct(">QIQ")
_LAST_VERSION = 2**32 - 1


class Shelf(Protocol):
    """Where one request's sealed bytes lie."""

    def put(self, block: int, sealed: memoryview) -> None:
        """Keep bytes, in place of those that were kept for the block.

        Raises:
            DiskFull: there is no room.
        """

    def get(self, block: int) -> Buffer:
        """Return what was kept, or what somebody made of it."""

    def drop(self, block: int) -> None:
        """Keep them no longer."""

    def close(self) -> None:
        """Keep nothing any longer."""


class MemoryShelf:
    """In host memory."""

    def __init__(self) -> None:
        """Begin empty."""
        self.kept: dict[int, bytearray] = {}

    def put(self, block: int, sealed: memoryview) -> None:
        """See `Shelf`."""
        self.kept[block] = bytearray(sealed)

    def get(self, block: int) -> Buffer:
        """See `Shelf`."""
        return self.kept[block]

    def drop(self, block: int) -> None:
        """See `Shelf`."""
        del self.kept[block]

    def close(self) -> None:
        """See `Shelf`."""
        self.kept.clear()


class FileShelf:
    """In a file without a name; places of one size are used again."""

    def __init__(self, folder: Path) -> None:
        """Make the file.

        Raises:
            OSError: the folder takes none.
        """
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - see close
        self._places: dict[int, tuple[int, int]] = {}
        self._spare: dict[int, list[int]] = {}
        self._end = 0

    def put(self, block: int, sealed: memoryview) -> None:
        """See `Shelf`. A block's old content stays until the new one is written."""
        size = len(sealed)
        at = self._take(size)
        try:
            self._write(sealed, at)
        except OSError as error:
            self._spare[size].append(at)
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise DiskFull("the disk holds no more sealed data") from None
            raise
        if block in self._places:
            self.drop(block)
        self._places[block] = at, size

    def get(self, block: int) -> Buffer:
        """See `Shelf`."""
        at, size = self._places[block]
        return os.pread(self._file.fileno(), size, at)

    def drop(self, block: int) -> None:
        """See `Shelf`."""
        at, size = self._places.pop(block)
        self._spare[size].append(at)

    def close(self) -> None:
        """See `Shelf`. The space is the disk's again."""
        self._file.close()

    def _take(self, size: int) -> int:
        spare = self._spare.setdefault(size, [])
        if spare:
            return spare.pop()
        at, self._end = self._end, self._end + size
        return at

    def _write(self, sealed: memoryview, at: int) -> None:
        written = 0
        while written < len(sealed):
            written += os.pwrite(self._file.fileno(), sealed[written:], at + written)


class SealedStore:
    """Room for the sealed data of all requests, and the secret that their keys come from."""

    def __init__(
        self,
        capacity: int,
        *,
        folder: Path | None = None,
        secret: Buffer | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Begin empty.

        Args:
            capacity: bytes that all requests may keep together.
            folder: where files go, if the policy allows a disk; host memory if None.
            secret: 32 bytes drawn at boot, drawn here unless given.
            random: makes request ids.
        """
        self._secret: bytearray | None = bytearray(memoryview(secret or secrets.token_bytes(KEY)))
        self._capacity, self._folder, self._random = capacity, folder, random
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes that are kept."""
        return self._used

    @property
    def free(self) -> int:
        """Bytes that may still be kept."""
        return self._capacity - self._used

    def begin(self) -> RequestStore:
        """Return a new request's part, under a key of its own.

        Raises:
            ChannelClosed: the store was closed.
            OSError: the folder takes no file.
        """
        if self._secret is None:
            raise ChannelClosed("the store was closed")
        shelf = MemoryShelf() if self._folder is None else FileShelf(self._folder)
        request = self._random(_ID)
        key = hkdf_sha256(self._secret, _LABEL + request)
        try:
            return RequestStore(self, shelf, request, key)
        finally:
            zeroise(key)

    def close(self) -> None:
        """Overwrite the secret: no request begins any more."""
        if self._secret is not None:
            zeroise(self._secret)
        self._secret = None

    def reserve(self, size: int) -> None:
        """Count bytes that a request keeps, or (negative) keeps no longer.

        Raises:
            PoolFull: there is no room for them.
        """
        with self._lock:
            if self._used + size > self._capacity:
                raise PoolFull("the pool of sealed data is full")
            self._used += size


class RequestStore:
    """One request's sealed blocks. One thread at a time. Leaving its context destroys it."""

    def __init__(self, room: SealedStore, shelf: Shelf, request: bytes, key: Buffer) -> None:
        """Begin empty, with a key."""
        self._room, self._shelf, self._request = room, shelf, request
        self._aead = aes_256_gcm(key)
        self._kept: dict[int, tuple[int, int]] = {}
        self._versions: dict[int, int] = {}
        self._destroyed = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Destroy, whatever happened."""
        self.destroy()

    def put(self, block: int, version: int, data: Buffer) -> None:
        """Seal a block's content, in place of an earlier version.

        Raises:
            BlockUnusable: this version, or a later one, was sealed before; or it is none.
            PoolFull: the store has no room; an earlier version is still there.
            DiskFull: the disk has none; likewise.
            KeyDestroyed: the request has ended.
        """
        self._check()
        if not self._versions.get(block, 0) < version <= _LAST_VERSION:
            raise BlockUnusable("a version is sealed once, and versions rise")
        size = bytes_of(data).size + TAG
        self._room.reserve(size)
        sealed = bytearray(size)
        self._versions[block] = version  # whatever comes of it, this nonce is used up
        try:
            self._aead.seal_into(
                _NONCE.pack(block, version), data, self._associated(block, version, size), sealed
            )
            self._shelf.put(block, memoryview(sealed))
        except BaseException:
            self._room.reserve(-size)
            raise
        self._room.reserve(-self._kept.get(block, (0, 0))[1])
        self._kept[block] = version, size

    def get(self, block: int, out: Buffer) -> int:
        """Open a block's content into `out`, as long as it; return its version.

        Raises:
            UnknownBlock: nothing is kept for it.
            BlockPoisoned: what is kept is not what was sealed; `out` is zeros.
            KeyDestroyed: the request has ended.
            ValueError: `out` has another length.
        """
        self._check()
        version, size = self._entry(block)
        if bytes_of(out).size != size - TAG:
            raise ValueError("`out` has to be as long as the content")
        try:
            sealed = self._shelf.get(block)
            associated = self._associated(block, version, size)
            self._aead.open_into(_NONCE.pack(block, version), sealed, associated, out)
        except (TagMismatch, OSError, ValueError):  # a file may have become shorter
            zeroise(out)
            raise BlockPoisoned("what was kept is not what was sealed") from None
        return version

    def drop(self, block: int) -> None:
        """Keep a block no longer.

        Raises:
            UnknownBlock: nothing is kept for it.
            KeyDestroyed: the request has ended.
        """
        self._check()
        size = self._entry(block)[1]
        self._shelf.drop(block)
        del self._kept[block]
        self._room.reserve(-size)

    def destroy(self) -> None:
        """Overwrite the key; keep nothing. May be called again."""
        if self._destroyed:
            return
        self._destroyed = True
        self._aead.close()
        self._room.reserve(-sum(size for _, size in self._kept.values()))
        self._kept.clear()
        self._shelf.close()

    def _check(self) -> None:
        if self._destroyed:
            raise KeyDestroyed("the request has ended")

    def _entry(self, block: int) -> tuple[int, int]:
        try:
            return self._kept[block]
        except KeyError:
            raise UnknownBlock("nothing is kept for this block") from None

    def _associated(self, block: int, version: int, size: int) -> bytes:
        return self._request + _ASSOCIATED.pack(block, version, size)
