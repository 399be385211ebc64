"""Base64url without padding (RFC 4648, section 5), in its one form."""

from __future__ import annotations

import base64


def encode(data: bytes) -> str:
    """Return the text of `data`, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: object) -> bytes:
    """Return the bytes of a text.

    Raises:
        ValueError: not text, or not the one text of any bytes: padding, stray bits, other
            characters.
    """
    if not isinstance(text, str):
        raise ValueError("not base64url: not text")  # noqa: TRY004 - one error for all bad input
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode(data) != text:
        raise ValueError("not base64url: not the one text of its bytes")
    return data
