"""Deterministic CBOR (RFC 8949, section 4.2.1): one value, one encoding."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import cbor2

from wire.errors import Malformed


def encode(value: Any) -> bytes:  # noqa: ANN401 - CBOR is a value of any shape
    """Encode `value` deterministically: shortest integers, sorted map keys, definite lengths."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes) -> Any:  # noqa: ANN401
    """Decode exactly one deterministic item.

    Raises:
        Malformed: not CBOR, trailing bytes, or another encoding of the same value (which would
            let one document have two digests).
    """
    stream = BytesIO(data)
    try:
        value = cbor2.CBORDecoder(stream).decode()
        reencoded = encode(value)
    except (
        cbor2.CBORError,
        ValueError,
        TypeError,
        RecursionError,
        OverflowError,
        EOFError,
    ) as error:
        raise Malformed("not a CBOR item") from error
    if reencoded != data:
        raise Malformed("not the deterministic encoding of a CBOR item")
    return value
