"""The small words of the C2SP text formats: base64 and decimal numbers, one spelling each."""

from __future__ import annotations

import base64
import binascii

from transparency.errors import Malformed

MAX_DIGITS = 19
"""Tree sizes and times stay below 2^63, which has 19 digits."""


def encode_base64(data: bytes) -> str:
    """Encode as standard base64 with padding (RFC 4648, section 4)."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str, length: int | None = None) -> bytes:
    """Decode standard base64, of exactly `length` bytes if given.

    Raises:
        Malformed: another alphabet, missing padding, spare bits set, or another length.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("not base64") from None
    if encode_base64(data) != text:
        raise Malformed("not the canonical base64 of any bytes")
    if length is not None and len(data) != length:
        raise Malformed(f"base64 of {len(data)} bytes where {length} are expected")
    return data


def decode_decimal(text: str) -> int:
    """Decode an ASCII decimal without sign or leading zeros, below 2^63.

    Raises:
        Malformed: anything else.
    """
    if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS:
        raise Malformed("not a decimal number")
    number = int(text)
    if str(number) != text or number >= 2**63:
        raise Malformed("not a decimal number in its one spelling")
    return number
