"""Deterministic CBOR: the examples of RFC 8949, and one accepted encoding for one value."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import cbor
from wire.errors import Malformed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-(2**40), 2**40) | st.text(max_size=30), inner, max_size=5)
    ),
    max_leaves=15,
)


def test_map_keys_are_sorted_bytewise():
    """RFC 8949, section 4.2.1: 10, 100, -1, "z", "aa", [100], [-1], false."""
    keys = [False, (-1,), (100,), "aa", "z", -1, 100, 10]
    order = [10, 100, -1, "z", "aa"]
    encoded = cbor.encode({key: 0 for key in keys if not isinstance(key, tuple | bool)})
    assert encoded == b"\xa5" + b"".join(cbor2.dumps(key) + b"\x00" for key in order)


def test_a_long_integer_key_comes_before_a_short_text():
    """Where sorting by length first (RFC 7049) would give another order."""
    assert cbor.encode({"a": 0, -65537: 0})[1:2] == b"\x3a"


@given(VALUES)
def test_every_value_has_exactly_one_accepted_encoding(value):
    data = cbor.encode(value)
    assert cbor.decode(data) == value
    assert cbor.encode(cbor.decode(data)) == data


@given(VALUES, st.binary(min_size=1, max_size=4))
def test_trailing_and_missing_bytes_are_refused(value, more):
    data = cbor.encode(value)
    with pytest.raises(Malformed):
        cbor.decode(data + more)
    with pytest.raises(Malformed):
        cbor.decode(data[:-1])


@given(st.binary(max_size=60))
def test_any_bytes_decode_to_their_own_encoding_or_are_refused(data):
    try:
        value = cbor.decode(data)
    except Malformed:
        return
    assert cbor.encode(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b"\x18\x17",  # 23 in two bytes
        b"\x5f\x41a\xff",  # indefinite length
        b"\xa2\x61b\x00\x61a\x00",  # keys out of order
        b"\xa2\x61a\x00\x61a\x00",  # one key twice
        b"\xf9\x3c\x00",  # a float
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",  # an array of 2^64-1 items
        b"\x5b\x00\x00\x00\x00\x40\x00\x00\x00",  # a claimed gigabyte
        b"\x81" * 5000,  # deep nesting
        b"\x81" * 64 + b"\x00",
        b"\xc2\x49\x01" + bytes(8),  # an integer of 65 bits
        b"\xc4\x82\x1b" + b"\x7f" * 8 + b"\x01",  # a decimal fraction beyond every number
        b"\xc5\x82\x1a\x7f\xff\xff\xff\x01",  # a big float
        b"\xd2\xd2\x00",  # a tag inside, where cbor2's own is not safe to be a key
        b"\xa1\xd2\x00\x00",
        b"\xc1\x00",  # a date
        b"\xd8\x23\x61(",  # a regular expression
        b"\xf7",  # undefined
        b"\xf8\xff",  # a simple value without a meaning
        b"",
    ],
)
def test_other_encodings_are_refused(data):
    with pytest.raises(Malformed):
        cbor.decode(data)


def test_references_are_refused_before_they_multiply():
    """Items that refer to each other: 270 bytes for a list of 2^40 items."""
    items = [b"\xd8\x1c\x80"] + [
        b"\xd8\x1c\x82" + 2 * (b"\xd8\x1d\x18" + bytes([n])) for n in range(24, 64)
    ]
    with pytest.raises(Malformed):
        cbor.decode(b"\x98" + bytes([len(items)]) + b"".join(items))


def test_an_integer_of_more_than_64_bits_is_not_written():
    for number in (1 << 64, -(1 << 64) - 1):
        with pytest.raises(Malformed):
            cbor.encode([number])
    assert cbor.decode(cbor.encode(-(1 << 64))) == -(1 << 64)


def test_the_one_tag_there_is_a_use_for_is_kept():
    assert cbor.decode(b"\xd2\x80") == cbor2.CBORTag(18, [])
