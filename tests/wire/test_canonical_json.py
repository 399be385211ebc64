"""Canonical JSON: one spelling written, strict JSON read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import canonical_json
from wire.errors import Malformed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def test_members_are_sorted_and_numbers_have_one_spelling():
    value = {"b": [1.0, 1e2, -0.5, 2**60], "a": "é\n", "": None}
    assert (
        canonical_json.encode(value)
        == '{"":null,"a":"é\\n","b":[1,100,-0.5,1152921504606846976]}'.encode()
    )


@given(VALUES)
def test_every_value_is_written_in_the_one_spelling_that_it_is_read_from(value):
    written = canonical_json.encode(value)
    assert canonical_json.decode(written) == value
    assert canonical_json.encode(canonical_json.decode(written)) == written
    assert canonical_json.encode(json.loads(json.dumps(value, indent=1))) == written


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_json_is_utf_8_and_nothing_else(encoding):
    assert json.loads('{"a":1}'.encode(encoding)) == {"a": 1}  # the standard library takes it
    with pytest.raises(Malformed):
        canonical_json.decode('{"a":1}'.encode(encoding))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"\xed\xa0\x80",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b"1 2",
        b"[" * 100_000,
        b"9" * 5000,
        b"'a'",
        b"01",
    ],
)
def test_what_is_not_strict_json_is_refused_without_a_word_of_it(data):
    with pytest.raises(Malformed) as caught:
        canonical_json.decode(data)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}, {1, 2}])
def test_what_has_no_json_is_not_written(value):
    with pytest.raises(Malformed):
        canonical_json.encode(value)


@given(st.binary(max_size=60))
def test_any_bytes_are_json_or_malformed(data):
    try:
        canonical_json.decode(data)
    except Malformed:
        return
    assert json.loads(data.decode()) is not ...
