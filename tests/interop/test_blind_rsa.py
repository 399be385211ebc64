"""RSA blind signatures against @cloudflare/blindrsa-ts: either side blinds, the other signs."""

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from issuer.libcrypto import RawPrivateKey
from wire import blind_rsa

SALT_LENGTHS = {"PSS": 48, "PSSZero": 0}
PREFIX_LENGTHS = {"Randomized": blind_rsa.PREFIX_LENGTH, "Deterministic": 0}
VARIANTS = [f"{salt}-{prefix}" for salt in SALT_LENGTHS for prefix in PREFIX_LENGTHS]
MESSAGE = b"a message that the signer never sees"


class Key:
    """One RSA-2048 key in the forms that the two sides take."""

    def __init__(self):
        private = generate_private_key(65537, 2048)
        self.public = private.public_key()
        self.pkcs8 = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        self.spki = self.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def key():
    return Key()


@pytest.fixture(scope="module")
def theirs(peer):
    return peer("blind_rsa.mjs")


def salt_length(variant):
    return SALT_LENGTHS[variant.split("-")[0]]


def prepare(variant):
    return blind_rsa.prepare(MESSAGE, b"\x07" * 32) if "Randomized" in variant else MESSAGE


@pytest.mark.parametrize("variant", VARIANTS)
def test_we_sign_what_they_blind(theirs, key, variant):
    names = {"variant": variant, "public_key": key.spki}
    blinded = theirs.call("blind", message=MESSAGE, **names)
    prepared = bytes.fromhex(blinded["prepared"])
    assert prepared[PREFIX_LENGTHS[variant.split("-")[1]] :] == MESSAGE
    with RawPrivateKey(key.pkcs8) as ours:
        blind_signature = ours.blind_sign(bytes.fromhex(blinded["blinded"]))
    finalized = theirs.call(
        "finalize",
        prepared=prepared,
        blind_signature=blind_signature,
        inverse=blinded["inverse"],
        **names,
    )
    signature = bytes.fromhex(finalized["signature"])
    blind_rsa.verify(key.public, prepared, signature, salt_length=salt_length(variant))


@pytest.mark.parametrize("variant", VARIANTS)
def test_they_sign_what_we_blind(theirs, key, variant):
    prepared = prepare(variant)
    blinded, blinding = blind_rsa.blind(
        key.public,
        prepared,
        salt=b"\x05" * salt_length(variant),
        blind=bytes(range(16)) * 17,
    )
    signed = theirs.call("blind_sign", variant=variant, private_key=key.pkcs8, blinded=blinded)
    blind_signature = bytes.fromhex(signed["blind_signature"])
    with RawPrivateKey(key.pkcs8) as ours:
        assert ours.blind_sign(blinded) == blind_signature
    signature = blind_rsa.finalize(key.public, prepared, blind_signature, blinding)
    checked = {"variant": variant, "public_key": key.spki, "signature": signature}
    assert theirs.call("verify", prepared=prepared, **checked) == {"verified": True}
    assert theirs.call("verify", prepared=prepared + b"x", **checked) == {"verified": False}


def test_they_refuse_a_signature_of_ours_over_something_else(theirs, key, refused):
    names = {"variant": "PSS-Deterministic", "public_key": key.spki}
    blinded = theirs.call("blind", message=MESSAGE, **names)
    with RawPrivateKey(key.pkcs8) as ours:
        other = ours.blind_sign(b"\x01" * 256)
    parts = {"prepared": blinded["prepared"], "inverse": blinded["inverse"]}
    with pytest.raises(refused):
        theirs.call("finalize", blind_signature=other, **parts, **names)
