"""The simulated attester quotes what it is given, under the root it shows."""

import hashlib
import time

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestation.attester.simulated import SimulatedAttester
from attestation.bundle import Bundle
from attestation.report_data import report_data

SEED, MEASUREMENT = b"\x01" * 32, b"\x02" * 32


def test_foreign_code_verifies_the_quote():
    attester = SimulatedAttester(SEED, MEASUREMENT, clock=lambda: 1_800_000_000.9)
    quote = cbor2.loads(attester.quote(b"\x03" * 64))
    claims = cbor2.loads(quote["claims"])
    assert claims["platform"] == attester.platform == "simulated"
    assert claims["measurement"] == MEASUREMENT
    assert claims["report_data"] == b"\x03" * 64
    assert claims["issued_at"] == 1_800_000_000
    assert hashlib.sha256(claims["root_key"]).digest() == attester.root_fingerprint
    root = Ed25519PublicKey.from_public_bytes(claims["root_key"])
    root.verify(quote["signature"], b"sottovoce simulated quote v1" + quote["claims"])


def test_the_clock_is_the_machine_s_unless_given():
    quote = cbor2.loads(SimulatedAttester(SEED, MEASUREMENT).quote(bytes(64)))
    assert abs(cbor2.loads(quote["claims"])["issued_at"] - time.time()) < 60


def test_a_bundle_binds_the_key_document_and_the_nonce(node):
    nonce = b"\x6e" * 32
    bundle = node.bundle(nonce)
    assert Bundle.decode(bundle.encode()) == bundle
    assert bundle.key_document == node.key_document.encode()
    assert bundle.engine_policy == node.engine_policy
    quoted = cbor2.loads(cbor2.loads(bundle.quote)["claims"])["report_data"]
    assert quoted == report_data(node.key_document.digest, nonce=nonce)
