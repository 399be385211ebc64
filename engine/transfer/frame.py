"""One transfer as it crosses the link.

    counter u64 | flags u8 | block u64 | version u64 | length u32 | ciphertext | tag

in network order, 29 bytes of header and 16 of tag. The header is the associated data, the nonce is
direction u32 | counter. A NOP (flags = 1) has block, version and length 0: it moves the counter.
There is one encoding of a frame; nothing may follow it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from engine.aead import TAG
from engine.transfer.errors import FrameRefused

NOP = 1
TO_DEVICE, TO_HOST = 1, 2
"""Directions, as they stand in a nonce."""
_HEADER = struct.Struct(">QBQQI")
HEADER = _HEADER.size
_NONCE = struct.Struct(">IQ")


@dataclass(frozen=True)
class Frame:
    """A sealed block, or a NOP.

    Attributes:
        counter: of this direction and key.
        flags: 0 or NOP.
        block: its id.
        version: of the block's content.
        length: bytes of the content.
        body: ciphertext and tag; of a form without tags the content alone, which crosses with a
            tag of zeros. After `Channel.sync` the memory is its owner's again.
    """

    counter: int
    flags: int
    block: int
    version: int
    length: int
    body: memoryview

    @property
    def ciphertext(self) -> memoryview:
        """The content as it crosses."""
        return self.body[: self.length]

    @property
    def tag(self) -> bytes:
        """What authenticates header and content."""
        return bytes(self.body[self.length :]) or bytes(TAG)

    @property
    def header(self) -> bytes:
        """The associated data."""
        return header(self.counter, self.flags, self.block, self.version, self.length)

    @property
    def wire_bytes(self) -> int:
        """Bytes that cross."""
        return HEADER + self.length + TAG

    def encode(self) -> bytes:
        """Return the frame's bytes."""
        return b"".join((self.header, self.ciphertext, self.tag))

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> Frame:
        """Read a frame; its content stays where it is.

        Raises:
            FrameRefused: truncated, extended, an unknown flag, or a NOP that has a content.
        """
        view = memoryview(data).cast("B")
        if len(view) < HEADER + TAG:
            raise FrameRefused("shorter than an empty frame")
        counter, flags, block, version, length = _HEADER.unpack(view[:HEADER])
        if len(view) != HEADER + length + TAG:
            raise FrameRefused("another length than the header states")
        if flags not in {0, NOP}:
            raise FrameRefused("an unknown flag")
        if flags == NOP and (block or version or length):
            raise FrameRefused("a NOP with a content")
        return cls(counter, flags, block, version, length, view[HEADER:])


def header(counter: int, flags: int, block: int, version: int, length: int) -> bytes:
    """Return a frame's header.

    Raises:
        struct.error: a number is out of range.
    """
    return _HEADER.pack(counter, flags, block, version, length)


def nonce(direction: int, counter: int) -> bytes:
    """Return the nonce of a counter."""
    return _NONCE.pack(direction, counter)
