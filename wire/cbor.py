"""Deterministic CBOR (RFC 8949, section 4.2.1): one value, one encoding."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import cbor2

from wire.errors import Malformed


def encode(value: Any) -> bytes:  # noqa: ANN401 - CBOR is a value of any shape
    """Encode `value` deterministically: shortest integers, sorted map keys, definite lengths.

    Raises:
        Malformed: a float is in it. No format here has one, and so none needs a rule for them.
    """
    return cbor2.dumps(_ordered(value))


def _ordered(value: Any) -> Any:  # noqa: ANN401
    """Return `value` with its maps in the bytewise order of their encoded keys."""
    if isinstance(value, float):
        raise Malformed("a float in deterministic CBOR")
    if isinstance(value, dict):
        members = ((_ordered(key), _ordered(member)) for key, member in value.items())
        # cbor2's own canonical mode sorts by length first, as RFC 7049 did.
        return dict(sorted(members, key=lambda member: cbor2.dumps(member[0])))
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if isinstance(value, cbor2.CBORTag):
        return cbor2.CBORTag(value.tag, _ordered(value.value))
    return value


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
