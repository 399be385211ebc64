"""Deterministic CBOR (RFC 8949, section 4.2.1): one value, one encoding.

Of CBOR's values: integers of 64 bits, byte and text strings, arrays, maps, false, true, null, and
in front of a whole item the one tag there is a use for. What others mean (dates, fractions, regular
expressions, references to items elsewhere) is never evaluated: a hundred bytes of references can
stand for a value larger than any memory.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import cbor2

from wire.errors import Malformed

TAGS = frozenset((18,))
"""COSE_Sign1 (RFC 9052, section 2): a receipt."""

MAX_DEPTH = 64
"""Deepest nesting. Our formats have four levels; a limit keeps recursion out of danger."""

_MAX_INTEGER = (1 << 64) - 1
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES = (20, 21, 22)  # false, true, null


def encode(value: Any) -> bytes:  # noqa: ANN401 - CBOR is a value of any shape
    """Encode `value` deterministically: shortest integers, sorted map keys, definite lengths.

    Raises:
        Malformed: a float is in it, or an integer of more than 64 bits. No format here has one, and
            so none needs a rule for them.
    """
    return cbor2.dumps(_ordered(value))


def _ordered(value: Any) -> Any:  # noqa: ANN401
    """Return `value` with its maps in the bytewise order of their encoded keys."""
    if isinstance(value, float):
        raise Malformed("a float in deterministic CBOR")
    if isinstance(value, int) and not -1 - _MAX_INTEGER <= value <= _MAX_INTEGER:
        raise Malformed("an integer of more than 64 bits")
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
    _scan(data)
    try:
        value = cbor2.CBORDecoder(BytesIO(data)).decode()
        reencoded = encode(value)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, EOFError) as error:
        raise Malformed("not a CBOR item") from error
    if reencoded != data:
        raise Malformed("not the deterministic encoding of a CBOR item")
    return value


def _scan(data: bytes) -> None:
    """Walk over every head, so that only what is harmless and finite is decoded.

    Raises:
        Malformed: not exactly one item, of the kinds above, each head as short as can be.
    """
    left = [1]  # how many items are still to come, at each level
    offset = 0
    while left:
        if not left[-1]:
            left.pop()
            continue
        left[-1] -= 1
        kind, argument, offset = _head(data, offset)
        if kind in (_BYTES, _TEXT):
            offset += argument
        elif kind in (_ARRAY, _MAP, _TAG):
            left.append({_ARRAY: argument, _MAP: 2 * argument, _TAG: 1}[kind])
        if offset > len(data) or left[-1] > len(data) - offset or len(left) > MAX_DEPTH:
            raise Malformed("a CBOR item that ends too soon or nests too deep")
    if offset != len(data):
        raise Malformed("trailing bytes after a CBOR item")


def _head(data: bytes, offset: int) -> tuple[int, int, int]:
    """Read one head: major type, argument, and the offset behind it (RFC 8949, section 3)."""
    if offset >= len(data):
        raise Malformed("a CBOR item is cut off")
    kind, argument = data[offset] >> 5, data[offset] & 31
    end = offset + 1
    if argument > 23 and kind != _SIMPLE:
        width = 1 << (argument - 24)
        end += width
        if width > 8 or end > len(data):
            raise Malformed("a CBOR item is cut off, or of indefinite length")
        argument = int.from_bytes(data[offset + 1 : end], "big")
        if argument < (24 if width == 1 else 1 << (4 * width)):
            raise Malformed("a CBOR head that is longer than it needs to be")
    if (kind == _SIMPLE and argument not in _SIMPLE_VALUES) or (
        kind == _TAG and (offset > 0 or argument not in TAGS)
    ):
        raise Malformed("a kind of CBOR value that no format here has")
    return kind, argument, end
