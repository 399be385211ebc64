"""Receipts against @auth0/cose and cbor-x: they verify and read ours, we verify theirs."""

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
