"""Chunks of chunked Oblivious HTTP (draft-ietf-ohai-chunked-ohttp-08, section 3).

    { varint length || non-final chunk } ... || varint 0 || final chunk, to the end of the stream

Each chunk is sealed by itself, in order; the final one has the additional data "final", all others
none. The lengths are not authenticated, so they are only believed within bounds. The same framing
runs in both directions; what seals and opens is brought along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wire import varint
from wire.errors import Malformed, OpenFailed, Truncated, WireError
from wire.hpke import TAG_LENGTH

MAX_CHUNK = 16384
"""Most plaintext bytes in a chunk. A recipient must accept as many and a sender should send no more
(-08, section 3), so nothing larger is made, read or waited for."""

FINAL = b"final"
"""Additional data of the final chunk; the others have none."""

Seal = Callable[[bytes, bytes], bytes]
"""(additional data, plaintext) -> ciphertext; each call uses the next nonce."""

Open = Callable[[bytes, bytes], bytes]
"""(additional data, ciphertext) -> plaintext or OpenFailed; each call uses the next nonce."""


def first_chunk(data: bytes) -> tuple[bytes, bytes]:
    """Return additional data and ciphertext of the first chunk of a whole message.

    Raises:
        Truncated: it is cut off. Malformed, OpenFailed: as `ChunkOpener.feed`.
    """
    length, start = varint.decode(data)
    if length == 0:
        return FINAL, _bounded(data[start:])
    if length > MAX_CHUNK + TAG_LENGTH:
        raise Malformed("a chunk is too long")
    if length <= TAG_LENGTH:
        raise OpenFailed("a chunk that is not the final one is empty")
    if len(data) < start + length:
        raise Truncated("a chunk is cut off")
    return b"", data[start : start + length]


def _bounded(final: bytes) -> bytes:
    if len(final) > MAX_CHUNK + TAG_LENGTH:
        raise Malformed("the final chunk is too long")
    return final


def _pieces(plaintext: bytes) -> list[bytes]:
    return [plaintext[at : at + MAX_CHUNK] for at in range(0, len(plaintext), MAX_CHUNK)]


class ChunkSealer:
    """Plaintext in, chunks out. Raises ValueError after the final chunk."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._ended = False

    def chunk(self, plaintext: bytes) -> bytes:
        """Seal as many chunks as `plaintext` needs; none for none, an empty one being illegal."""
        if self._ended:
            raise ValueError("the final chunk has been sealed")
        if 0 < len(plaintext) <= MAX_CHUNK:
            return self._non_final(plaintext)
        return b"".join(self._non_final(piece) for piece in _pieces(plaintext))

    def final(self, plaintext: bytes = b"") -> bytes:
        """Seal the rest, whose last piece becomes the final chunk; that may be empty."""
        last_at = max(len(plaintext) - 1, 0) // MAX_CHUNK * MAX_CHUNK
        chunks = self.chunk(plaintext[:last_at])
        self._ended = True
        return chunks + varint.encode(0) + self._seal(FINAL, plaintext[last_at:])

    def _non_final(self, piece: bytes) -> bytes:
        ciphertext = self._seal(b"", piece)
        return varint.encode(len(ciphertext)) + ciphertext


class ChunkOpener:
    """Chunks in, plaintext out. Holds at most one chunk. One failure ends it."""

    def __init__(self, open_: Open) -> None:
        self._open = open_
        self._buffer = bytearray()
        self._final = False
        self._ended = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the plaintext of each non-final chunk they complete.

        Raises:
            Malformed: a length beyond the largest chunk; refused before its bytes arrive.
            OpenFailed: a chunk is not authentic or is empty; or the stream has ended or failed.
        """
        self._check_usable()
        self._buffer += data
        try:
            return list(self._open_complete())
        except WireError:
            self._ended = True
            raise

    def finish(self) -> bytes:
        """Say that the stream has ended; return the plaintext of the final chunk, maybe empty.

        Raises:
            Truncated: it ended before the final chunk began, or too soon after.
            OpenFailed: the final chunk is not authentic, or is cut off.
        """
        self._check_usable()
        self._ended = True
        if not self._final or len(self._buffer) < TAG_LENGTH:
            raise Truncated("the stream ended without a final chunk")
        return self._open(FINAL, bytes(self._buffer))

    def _check_usable(self) -> None:
        if self._ended:
            raise OpenFailed("the stream has ended or failed")

    def _open_complete(self) -> Iterator[bytes]:
        while not self._final and (chunk := self._next_chunk()) is not None:
            yield self._open(b"", chunk)
        if self._final and len(self._buffer) > MAX_CHUNK + TAG_LENGTH:
            raise Malformed("the final chunk is too long")

    def _next_chunk(self) -> bytes | None:
        """Take one whole non-final chunk off the buffer; None if there is none (yet)."""
        try:
            length, start = varint.decode(self._buffer)
        except Truncated:
            return None
        if length == 0:
            self._final = True
            del self._buffer[:start]
            return None
        if length > MAX_CHUNK + TAG_LENGTH:
            raise Malformed("a chunk is too long")
        if length <= TAG_LENGTH:
            raise OpenFailed("a chunk that is not the final one is empty")
        if len(self._buffer) < start + length:
            return None
        chunk = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return chunk
