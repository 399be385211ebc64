"""The engine policy is read strictly: canonical JSON, known values, further members allowed."""

import hashlib
import json

import pytest

from attestation.errors import MalformedEvidence
from attestation.verifier.engine_policy import (
    TRANSFERS_AT_LEAST,
    VERIFICATION_AT_LEAST,
    EnginePolicy,
)
from wire import canonical_json
from wire.receipt import TRANSFER_MODES, VERIFICATION_MODES

POLICY = {
    "version": 1,
    "verification": "audit",
    "transfers": "none",
    "prefix_cache": "request",
    "device": "cpu",
    "optimisations": {"paging": {"state": "on", "form": "blocks"}},
}


def test_a_policy_is_read():
    data = canonical_json.encode(POLICY | {"checkpoint": "the engine's own"})
    policy = EnginePolicy.decode(data)
    assert policy.digest == hashlib.sha256(data).digest()
    assert (policy.verification, policy.transfers) == ("audit", "none")
    assert (policy.prefix_cache, policy.device) == ("request", "cpu")
    assert policy.optimisations == {"paging": "on"}


def test_an_engine_erases_unless_it_says_that_another_computes():
    assert EnginePolicy.decode(canonical_json.encode(POLICY)).erasure == "engine"
    other = canonical_json.encode(POLICY | {"erasure": "upstream"})
    assert EnginePolicy.decode(other).erasure == "upstream"


@pytest.mark.parametrize(
    "changes",
    [
        {"erasure": "nobody"},
        {"erasure": None},
        {"version": 2},
        {"version": True},
        {"version": "1"},
        {"version": None},
        {"verification": "some"},
        {"verification": 1},
        {"verification": None},
        {"transfers": "open"},
        {"transfers": ["none"]},
        {"prefix_cache": None},
        {"prefix_cache": 0},
        {"device": 7},
        {"optimisations": None},
        {"optimisations": []},
        {"optimisations": {"paging": "on"}},
        {"optimisations": {"paging": {"state": "on"}}},
        {"optimisations": {"paging": {"form": "blocks"}}},
        {"optimisations": {"paging": {"state": "silent", "form": "blocks"}}},
    ],
)
def test_a_value_that_is_not_known_is_refused(changes):
    with pytest.raises(MalformedEvidence):
        EnginePolicy.decode(canonical_json.encode(POLICY | changes))


@pytest.mark.parametrize("name", sorted(POLICY))
def test_a_missing_member_is_refused(name):
    less = {key: value for key, value in POLICY.items() if key != name}
    with pytest.raises(MalformedEvidence):
        EnginePolicy.decode(canonical_json.encode(less))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"\xff",
        json.dumps(POLICY).encode(),
        canonical_json.encode(POLICY) + b"\n",
        canonical_json.encode(POLICY).replace(b'"version":1', b'"version":1.0'),
        b'{"x":"\\ud800"}',
    ],
)
def test_what_is_not_canonical_json_is_refused(data):
    with pytest.raises(MalformedEvidence):
        EnginePolicy.decode(data)


def test_every_mode_has_its_place_in_the_order():
    for table, modes in (
        (VERIFICATION_AT_LEAST, VERIFICATION_MODES),
        (TRANSFERS_AT_LEAST, TRANSFER_MODES),
    ):
        assert set(table) == set(modes)
        for promised, kept in table.items():
            assert promised in kept
            assert all(table[mode] <= kept for mode in kept)  # what is better is better still
