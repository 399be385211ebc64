import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import varint
from wire.errors import Truncated

# RFC 9000, appendix A.1.
PUBLISHED = [
    ("c2197c5eff14e88c", 151288809941952652),
    ("9d7f3e7d", 494878333),
    ("7bbd", 15293),
    ("25", 37),
]


@pytest.mark.parametrize(("encoded", "value"), PUBLISHED)
def test_published_examples_are_read_and_written(encoded, value):
    data = bytes.fromhex(encoded)
    assert varint.decode(data) == (value, len(data))
    assert varint.encode(value) == data


def test_a_longer_encoding_of_the_same_value_is_read():
    assert varint.decode(bytes.fromhex("4025")) == (37, 2)


@pytest.mark.parametrize("value", [0, 63, 64, 16383, 16384, 2**30 - 1, 2**30, 2**62 - 1])
def test_boundaries_come_back_from_the_shortest_encoding(value):
    assert varint.decode(varint.encode(value)) == (value, len(varint.encode(value)))


@pytest.mark.parametrize("value", [-1, 2**62])
def test_what_no_encoding_holds_is_refused(value):
    with pytest.raises(ValueError, match="holds this value"):
        varint.encode(value)


@given(st.integers(0, varint.MAX), st.binary(max_size=4))
def test_decoding_stops_behind_the_integer(value, rest):
    data = varint.encode(value)
    assert varint.decode(b"?" + data + rest, 1) == (value, 1 + len(data))
    for end in range(len(data)):
        with pytest.raises(Truncated):
            varint.decode(data[:end])
