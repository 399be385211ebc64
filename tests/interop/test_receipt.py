"""Receipts against @auth0/cose and cbor-x: they verify and read ours, we verify theirs."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wire import receipt
from wire.receipt import PROFILE, Receipt, Transfers, Verification

SEED = b"\x07" * 32
KEY = Ed25519PrivateKey.from_private_bytes(SEED)
PUBLIC = KEY.public_key().public_bytes_raw()
OTHER_PUBLIC = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()

RECEIPT = Receipt(
    key_document=b"\x01" * 32,
    request_hash=b"\x02" * 32,
    response_hash=b"\x03" * 32,
    model_digest=b"\x04" * 32,
    prompt_tokens=1234,
    completion_tokens=56,
    verification=Verification("audit", 2**40, b"\x05" * 32),
    transfers=Transfers("sealed", 23, 20, 3),
    issued_at=1_800_000_000,
)

# What a reader without our code finds, by the numbers of the registries, in the order written.
CLAIMS = {
    6: 1_800_000_000,
    8: {3: b"\x01" * 32},
    10: b"\x02" * 32,
    265: PROFILE,
    -65537: b"\x03" * 32,
    -65538: b"\x04" * 32,
    -65539: [1234, 56],
    -65540: ["audit", 2**40, b"\x05" * 32],
    -65541: ["sealed", 23, 20, 3],
}


@pytest.fixture(scope="module")
def theirs(peer):
    return peer("receipt.mjs")


def as_json(value):
    """A CBOR value as the program reads and prints it; maps keep their order."""
    if isinstance(value, dict):
        return {"map": [[key, as_json(each)] for key, each in value.items()]}
    if isinstance(value, list):
        return [as_json(each) for each in value]
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


def changed(signed, at):
    return signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]


def test_they_verify_and_read_a_receipt(theirs):
    signed = receipt.sign(RECEIPT, KEY)
    assert theirs.call("verify", receipt=signed, public_key=PUBLIC) == {
        "protected": as_json({1: -8}),  # EdDSA
        "unprotected": as_json({}),
        "claims": as_json(CLAIMS),
    }


def test_they_refuse_a_receipt_that_was_changed(theirs, refused):
    signed = receipt.sign(RECEIPT, KEY)
    for forged in (changed(signed, signed.index(b"audit")), changed(signed, len(signed) - 1)):
        with pytest.raises(refused):
            theirs.call("verify", receipt=forged, public_key=PUBLIC)
    with pytest.raises(refused):
        theirs.call("verify", receipt=signed, public_key=OTHER_PUBLIC)


def test_we_verify_a_receipt_that_they_sign(theirs):
    """The same bytes, even: their CBOR is as short as ours, and Ed25519 is deterministic."""
    made = theirs.call("sign", claims=as_json(CLAIMS), seed=SEED, public_key=PUBLIC)
    signed = bytes.fromhex(made["receipt"])
    assert receipt.verify(signed, PUBLIC) == RECEIPT
    assert signed == receipt.sign(RECEIPT, KEY)


# The vectors of docs/spec: read by this program alone, as another implementation would.

VECTORS = json.loads(
    (Path(__file__).parents[2] / "docs" / "spec" / "vectors" / "receipt.json").read_text()
)


def claims_of(stated):
    """The claims as the page has them, of what the vectors say in words."""
    verification, transfers = stated["verification"], stated["transfers"]
    return {
        6: stated["issued_at"],
        8: {3: bytes.fromhex(stated["key_document"])},
        10: bytes.fromhex(stated["request_hash"]),
        265: PROFILE,
        -65537: bytes.fromhex(stated["response_hash"]),
        -65538: bytes.fromhex(stated["model_digest"]),
        -65539: [stated["prompt_tokens"], stated["completion_tokens"]],
        -65540: [
            verification["mode"],
            verification["checks"],
            bytes.fromhex(verification["decisions"]),
        ],
        -65541: [transfers[name] for name in ("mode", "sent", "hits", "misses")],
    }


@pytest.mark.parametrize("case", VECTORS["cases"], ids=["whole", "stream"])
def test_they_verify_the_vectors_and_compute_the_same_hashes(theirs, case):
    found = theirs.call("verify", receipt=case["receipt"], public_key=VECTORS["public_key"])
    assert found == {
        "protected": as_json({1: -8}),
        "unprotected": as_json({}),
        "claims": as_json(claims_of(case["claims"])),
    }
    hashed = ("request_salt", "response_salt", "path", "body", "payloads")
    assert theirs.call("hashes", **{name: case[name] for name in hashed}) == {
        name: case["claims"][name] for name in ("request_hash", "response_hash")
    }


@pytest.mark.parametrize("changed", ["request_salt", "response_salt", "path", "body", "payloads"])
def test_another_request_or_answer_has_other_hashes(theirs, changed):
    case = VECTORS["cases"][1]
    hashed = {
        name: case[name] for name in ("request_salt", "response_salt", "path", "body", "payloads")
    }
    others = {
        "request_salt": "00" * 32,
        "response_salt": "00" * 32,
        "path": case["path"] + "x",
        "body": case["body"] + " ",
        "payloads": case["payloads"][:-1],
    }
    found = theirs.call("hashes", **{**hashed, changed: others[changed]})
    expected = {name: case["claims"][name] for name in ("request_hash", "response_hash")}
    assert sum(found[name] != expected[name] for name in expected) == 1


@pytest.mark.parametrize(
    "why", ["another algorithm", "signed by another key", "one bit of the claims flipped"]
)
def test_they_refuse_what_the_vectors_say_must_be(theirs, refused, why):
    """What is ours to refuse beyond COSE (further claims, another order) they cannot know."""
    with pytest.raises(refused):
        theirs.call("verify", receipt=VECTORS["refused"][why], public_key=VECTORS["public_key"])
