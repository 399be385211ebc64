"""A decoder under test: what may come out of it, and inputs to begin from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """One decoder.

    Attributes:
        name: how it is called on the command line.
        decode: bytes in; anything out, or one of `errors`. Nothing else may be raised. It asserts
            what must hold of the result.
        errors: what the decoder promises to raise.
        seeds: inputs that it accepts.
        covers: the functions that are reached, as `module:name`.
        encode: given where one encoding is accepted: from the result back to the very same bytes.
    """

    name: str
    decode: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], Iterable[bytes]]
    covers: tuple[str, ...]
    encode: Callable[[Any], bytes] | None = None

    def accepts(self, data: bytes) -> bool:
        """Decode; say whether it was accepted. What `decode` may not raise passes through."""
        try:
            decoded = self.decode(data)
        except self.errors:
            return False
        if self.encode is not None:
            assert self.encode(decoded) == data, "another encoding of the same value is accepted"
        return True


TOKENS = (
    *(b"\\ud800", b'"\\ud800"', b"1e999", b"-0.0", b"NaN", b"\xef\xbb\xbf", b"\x00"),  # JSON
    *(b"[" * 1500, b'{"":' * 1500, b"9" * 5000, "\u0663".encode()),
    *(b"\xc2\x41\x01", b"\xc4\x82\x1b" + b"\x7f" * 8, b"\xc5\x82\x1a\x7f\xff\xff\xff\x01"),  # CBOR
    *(
        b"\xd8\x1e\x82\x01\x00",
        b"\xd8\x23\x61(",
        b"\xd8\x25\x40",
        b"\xf9\x7e\x00",
        b"\x9f",
        b"\xff",
    ),
    *(b"\xc0\x60", b"\xc1\x1b" + b"\xff" * 8, b"\x9b" + b"\x7f" * 8, b"\x5b" + b"\xff" * 8),
    *(b"\xd8\x1c\x81\xd8\x1d\x00", b"\x81" * 1500, b"\xd9\x01\x02\x80"),
    *(b"\x40\x00", b"\x80\x00\x00\x00", b"\xc0" + bytes(7), b"\xff" * 8),  # lengths
    *(b"\r\n", b"\n\n", b"\t", b'\\"', b",", b"="),  # fields and lines
)
"""Pieces that decoders of these formats have stumbled over."""


def pieces_of(data: bytes, size: int) -> list[bytes]:
    """Cut into pieces of `size` bytes, as a network might deliver them."""
    return [data[at : at + size] for at in range(0, len(data), size)]
