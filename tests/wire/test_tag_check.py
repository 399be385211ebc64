"""A tag checked without decrypting says what opening would have said."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from wire import tag_check
from wire.errors import OpenFailed
from wire.hpke import Aead, ContextSecrets, Kdf, Kem, RecipientContext, Suite
from wire.tag_check import check_first


def secrets_of(aead: Aead, key: bytes | None = None, nonce: bytes | None = None) -> ContextSecrets:
    suite = Suite(Kem.XWING, Kdf.HKDF_SHA256, aead)
    key, nonce = key or os.urandom(suite.key_length), nonce or os.urandom(12)
    return ContextSecrets(suite, key, nonce, bytes(32))


def sealed(secrets: ContextSecrets, aad: bytes, plaintext: bytes) -> bytes:
    cipher = ChaCha20Poly1305 if secrets.suite.aead is Aead.CHACHA20_POLY1305 else AESGCM
    return cipher(secrets.key).encrypt(secrets.base_nonce, plaintext, aad)


def opens(secrets: ContextSecrets, aad: bytes, ciphertext: bytes) -> bool:
    try:
        RecipientContext.from_secrets(secrets).open(aad, ciphertext)
    except OpenFailed:
        return False
    return True


def checks(secrets: ContextSecrets, aad: bytes, ciphertext: bytes) -> bool:
    try:
        check_first(secrets, aad, ciphertext)
    except OpenFailed:
        return False
    return True


def test_gcm_of_the_mode_s_own_specification():
    """Test case 4 of McGrew and Viega, *The Galois/Counter Mode of Operation*, appendix B."""
    secrets = secrets_of(
        Aead.AES_128_GCM,
        bytes.fromhex("feffe9928665731c6d6a8f9467308308"),
        bytes.fromhex("cafebabefacedbaddecaf888"),
    )
    aad = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    ciphertext = bytes.fromhex(
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
        "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
        "5bc94fbc3221a5db94fae95ae7121a47"
    )
    check_first(secrets, aad, ciphertext)
    assert not checks(secrets, aad + b"\0", ciphertext)


def test_chacha20_poly1305_of_rfc_8439():
    """Section 2.8.2."""
    secrets = secrets_of(
        Aead.CHACHA20_POLY1305, bytes(range(0x80, 0xA0)), bytes.fromhex("070000004041424344454647")
    )
    aad = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    ciphertext = bytes.fromhex(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
        "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
        "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
        "3ff4def08e4b7a9de576d26586cec64b6116"
        "1ae10b594f09e26a7e902ecbd0600691"
    )
    check_first(secrets, aad, ciphertext)


@given(aead=st.sampled_from(Aead), aad=st.binary(max_size=40), plaintext=st.binary(max_size=200))
def test_what_was_sealed_is_authentic_and_nothing_next_to_it(aead, aad, plaintext):
    secrets = secrets_of(aead)
    ciphertext = sealed(secrets, aad, plaintext)
    check_first(secrets, aad, ciphertext)
    for other in (
        ciphertext[:-1],
        ciphertext[1:],
        ciphertext + b"\0",
        b"\0" + ciphertext,
        ciphertext[:-1] + bytes([ciphertext[-1] ^ 1]),
        bytes([ciphertext[0] ^ 0x80]) + ciphertext[1:],
        b"",
    ):
        assert not checks(secrets, aad, other)
    assert not checks(secrets, aad + b"\0", ciphertext)
    assert not checks(secrets_of(aead), aad, ciphertext)


@pytest.mark.parametrize("aead", list(Aead))
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 4096, 16384, 65536])
@pytest.mark.parametrize("aad", [b"", b"final"])
def test_it_agrees_with_opening(aead, length, aad):
    secrets = secrets_of(aead)
    for ciphertext in (sealed(secrets, aad, bytes(length)), os.urandom(length + 16)):
        for data in (b"", b"final"):
            assert checks(secrets, data, ciphertext) == opens(secrets, data, ciphertext)


def test_data_that_moves_between_the_two_inputs_is_noticed():
    """Both are hashed in one row; only the block of lengths keeps them apart."""
    secrets = secrets_of(Aead.AES_128_GCM)
    block = bytes(16)
    whole = sealed(secrets, b"", block * 2)
    assert not checks(secrets, whole[:16], whole[16:])
    assert not checks(secrets, b"", sealed(secrets, block, b""))


@given(public=st.integers(0, 2**128 - 1), secret=st.integers(0, 2**128 - 1))
def test_multiplication_is_that_of_the_specification(public, secret):
    """NIST SP 800-38D, algorithm 1, bit by bit."""
    product, shifted = 0, secret
    for bit in range(127, -1, -1):
        product ^= shifted * (public >> bit & 1)
        shifted = shifted >> 1 ^ (0xE1 << 120) * (shifted & 1)
    assert tag_check._times(public, secret) == product
