"""The AEADs against published vectors, of whichever library they are."""

import hashlib

import pytest

from engine import aead
from engine.aead import AeadError, NoLibcrypto, TagMismatch

# NIST's GCM vectors (McGrew and Viega), test cases 13 to 16: AES-256.
KEY_15 = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
DATA_15 = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
SEALED_15 = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
)
ASSOCIATED_16 = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
AES_VECTORS = [
    ("00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    ("00" * 32, "00" * 12, "00" * 16, "",
     "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    (KEY_15, "cafebabefacedbaddecaf888", DATA_15, "",
     SEALED_15 + "b094dac5d93471bdec1a502270e3cc6c"),
    (KEY_15, "cafebabefacedbaddecaf888", DATA_15[:120], ASSOCIATED_16,
     SEALED_15[:120] + "76fc6ece0f4e1768cddf8853bb2d551b"),
]  # fmt: skip

# RFC 8439, section 2.8.2.
SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
CHACHA_SEALED = (
    "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
    "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
    "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
    "3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"
)
CHACHA = (
    bytes(range(0x80, 0xA0)), bytes.fromhex("070000004041424344454647"),
    bytes.fromhex("50515253c0c1c2c3c4c5c6c7"), bytes.fromhex(CHACHA_SEALED),
)  # fmt: skip

AES = [aead.aes_256_gcm, lambda key: aead.Evp("EVP_aes_256_gcm", bytearray(key))]
CHACHAS = [aead.chacha20_poly1305, lambda key: aead.Evp("EVP_chacha20_poly1305", bytearray(key))]


@pytest.mark.parametrize("make", AES, ids=["default", "libcrypto"])
@pytest.mark.parametrize("vector", AES_VECTORS)
def test_aes_256_gcm_computes_the_published_vectors(make, vector):
    key, nonce, data, associated, sealed = map(bytes.fromhex, vector)
    assert make(key).seal(nonce, data, associated) == sealed
    assert make(key).open_(nonce, sealed, associated) == data


@pytest.mark.parametrize("make", CHACHAS, ids=["default", "libcrypto"])
def test_chacha20_poly1305_computes_the_published_vector(make):
    key, nonce, associated, sealed = CHACHA
    assert make(key).seal(nonce, SUNSCREEN, associated) == sealed
    assert make(key).open_(nonce, sealed, associated) == SUNSCREEN


def test_hkdf_computes_the_first_vector_of_rfc_5869():
    made = aead.hkdf_sha256(
        bytes([0x0B] * 22),
        bytes(range(0xF0, 0xFA)),
        bytes(range(13)),
        42,
    )
    assert made.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_hkdf_without_salt_computes_the_third_vector_of_rfc_5869():
    made = aead.hkdf_sha256(bytes([0x0B] * 22), b"", b"", 42)
    assert made.hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


@pytest.mark.parametrize("make", [*AES, *CHACHAS])
def test_whatever_is_changed_is_noticed_and_nothing_comes_out(make):
    cipher, data = make(bytes(range(32))), hashlib.shake_256(b"data").digest(5000)
    sealed = cipher.seal(bytes(12), data, b"header")
    for at in (0, 2500, 4999, 5000, 5015):
        forged, out = bytearray(sealed), bytearray(b"x" * 5000)
        forged[at] ^= 1
        with pytest.raises(TagMismatch):
            cipher.open_into(bytes(12), forged, b"header", out)
        assert not any(out)
    for nonce, associated in ((bytes(11) + b"1", b"header"), (bytes(12), b"Header")):
        with pytest.raises(TagMismatch):
            cipher.open_(nonce, sealed, associated)
    with pytest.raises(TagMismatch):
        cipher.open_(bytes(12), sealed[:15], b"header")


@pytest.mark.parametrize("make", AES)
def test_lengths_are_checked_before_anything_is_written(make):
    cipher = make(bytes(32))
    for size in (15, 17):
        with pytest.raises(ValueError, match=r"16|length|buffer|long"):
            cipher.seal_into(bytes(12), b"", b"", bytearray(size))
    with pytest.raises(ValueError, match="nonce"):
        cipher.seal(bytes(8), b"", b"")
    with pytest.raises(ValueError, match="32 bytes"):
        aead.aes_256_gcm(bytes(16))


@pytest.mark.parametrize("make", AES)
def test_nothing_is_sealed_after_closing(make):
    cipher = make(bytes(32))
    cipher.seal(bytes(12), b"data", b"")
    cipher.close()
    with pytest.raises(AeadError):
        cipher.seal(bytes(12), b"data", b"")


def test_libcrypto_overwrites_its_key():
    key = bytearray(range(32))
    aead.Evp("EVP_aes_256_gcm", key).close()
    assert not any(key)


def test_a_machine_without_libcrypto_is_told_so(monkeypatch):
    aead._libcrypto.cache_clear()
    monkeypatch.setattr(aead, "_candidates", lambda: ["libno-such-thing.so"])
    with pytest.raises(NoLibcrypto, match="libcrypto"):
        aead.Evp("EVP_aes_256_gcm", bytearray(32))
    aead._libcrypto.cache_clear()


def test_without_the_package_libcrypto_is_taken(monkeypatch):
    monkeypatch.setattr(aead, "find_spec", lambda _: None)
    assert isinstance(aead.aes_256_gcm(bytes(32)), aead.Evp)
