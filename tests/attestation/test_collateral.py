"""Collateral has one encoding, and shows the parts that nobody would look into."""

import json

import pytest

from attestation import base64url
from attestation.collateral import MAX_PARTS, Collateral
from attestation.errors import MalformedEvidence

PARTS = {"amd-chain": b"-----BEGIN", "nvidia.0-ocsp": b"\xff\xfe\xfd", "rim.0": b"<x/>"}


@pytest.mark.parametrize("parts", [{}, {"amd-crl": b"x"}, PARTS])
def test_collateral_round_trips(parts):
    assert Collateral.decode(Collateral(parts).encode()) == Collateral(parts)


def test_the_encoding_is_sorted_json_of_base64url():
    encoded = Collateral(PARTS).encode()
    assert encoded == (b'{"amd-chain":"LS0tLS1CRUdJTg","nvidia.0-ocsp":"__79","rim.0":"PHgvPg"}')
    assert Collateral().encode() == b""


def test_parts_cannot_be_changed():
    with pytest.raises(TypeError):
        Collateral(PARTS).parts["rim.0"] = b""


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[]",
        b"x",
        b'{"a":"eA"} ',
        b'{"a":"eA","a":"eA"}',
        b'{"b":"eA","a":"eA"}',
        b'{"a":"eA=="}',
        b'{"a":"eB"}',
        b'{"a":"e A"}',
        b'{"a":"\xc3\xa9"}',
        b'{"a":"x"}',
        b'{"a":""}',
        b'{"a":1}',
        b'{"A":"eA"}',
        b'{"":"eA"}',
        b'{"' + b"a" * 65 + b'":"eA"}',
        json.dumps({f"a{n}": "eA" for n in range(MAX_PARTS + 1)}).encode(),
    ],
)
def test_another_encoding_is_refused(data):
    with pytest.raises(MalformedEvidence):
        Collateral.decode(data)


def test_too_many_parts_are_never_made():
    with pytest.raises(ValueError, match="too many"):
        Collateral({f"a{n}": b"x" for n in range(MAX_PARTS + 1)})


def test_unused_parts_are_found():
    collateral = Collateral(PARTS)
    assert collateral.unused(frozenset(PARTS)) == frozenset()
    assert collateral.unused(frozenset({"amd-chain"})) == {"nvidia.0-ocsp", "rim.0"}


def test_base64url_has_one_text_for_each_value():
    for length in range(70):
        data = bytes(range(length))
        assert base64url.decode(base64url.encode(data)) == data
    for text in ("e", "eB", "eA=", "e+/A", "\u0663", None, b"eA"):
        with pytest.raises(ValueError, match=r".*"):
            base64url.decode(text)
