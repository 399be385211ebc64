"""Variable-length integers (RFC 9000, section 16): 62 bits in 1, 2, 4 or 8 bytes.

The two high bits of the first byte say how long the integer is. More than one encoding of a value
is legal, by RFC 9000 and by everything built on it; we write the shortest and read them all.
"""

from __future__ import annotations

from wire.errors import Truncated

MAX = (1 << 62) - 1
"""The largest value there is an encoding for."""

_LENGTH_BITS = {1: 0, 2: 1, 4: 2, 8: 3}


def encode(n: int) -> bytes:
    """Encode `n` in the fewest bytes.

    Raises:
        ValueError: negative, or beyond 2^62 - 1.
    """
    if 64 <= n < 16384:
        return (0x4000 | n).to_bytes(2, "big")  # what almost every chunk's length is
    if not 0 <= n <= MAX:
        raise ValueError("no variable-length integer holds this value")
    length = next(size for size in _LENGTH_BITS if n < 1 << (8 * size - 2))
    return (n | _LENGTH_BITS[length] << (8 * length - 2)).to_bytes(length, "big")


def encoded_length(first_byte: int) -> int:
    """Return how many bytes (1, 2, 4 or 8) the integer that begins with `first_byte` takes."""
    return 1 << (first_byte >> 6)


def decode(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int]:
    """Decode the integer at `offset`: its value, and the offset behind it.

    Raises:
        Truncated: `data` ends inside the integer.
    """
    if offset >= len(data):
        raise Truncated("a length is missing")
    length = encoded_length(data[offset])
    end = offset + length
    if end > len(data):
        raise Truncated("a length is cut off")
    value = int.from_bytes(data[offset:end], "big")
    return value & ((1 << (8 * length - 2)) - 1), end
