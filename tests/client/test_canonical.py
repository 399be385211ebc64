import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.canonical import IDENTITY_FIELDS, canonical_body, parse_body
from client.errors import RequestRefused

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_spelling_does_not_reach_the_worker():
    python = (
        b'{"model": "m", "temperature": 1.0, "messages": [{"role":"user","content":"h\\u00e9"}]}'
    )
    node = '{"messages":[{"content":"hé","role":"user"}],"temperature":1,"model":"m"}'.encode()
    assert canonical_body(parse_body(python)) == canonical_body(parse_body(node))


def test_identity_fields_and_explicit_nulls_do_not_reach_the_worker():
    named = dict.fromkeys(IDENTITY_FIELDS, "alice")
    body = canonical_body({"model": "m", "stop": None, **named})
    assert body == b'{"model":"m"}'


def test_a_null_further_in_is_part_of_the_request():
    message = {"role": "assistant", "content": None}
    assert json.loads(canonical_body({"messages": [message]})) == {"messages": [message]}


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_canonical_form_is_stable_and_means_the_same(members):
    body = canonical_body(members)
    kept = {k: v for k, v in members.items() if v is not None and k not in IDENTITY_FIELDS}
    assert json.loads(body) == kept
    assert canonical_body(parse_body(body)) == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b"\xff\xfe",
        b'{"canary-prompt"',
        b"[" * 100_000,
    ],
)
def test_what_is_not_one_json_object_is_refused_without_an_echo(body):
    with pytest.raises(RequestRefused) as refused:
        parse_body(body)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_lone_surrogate_is_refused():
    with pytest.raises(RequestRefused):
        canonical_body(parse_body(b'{"a":"\\ud800"}'))
