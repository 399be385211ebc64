"""Whether a ciphertext is authentic, found out without decrypting it.

AES-GCM (NIST SP 800-38D) authenticates additional data A and ciphertext C by

    tag = GHASH_H(pad(A) || pad(C) || 8|A| as u64 || 8|C| as u64) xor E_K(J0)

A tag over `pad(A) || pad(C)` as additional data alone, which every library computes, differs from
that in the block of lengths only. GHASH is linear, so the two tags differ by that block's
difference times H = E_K(0). ChaCha20-Poly1305 (RFC 8439, section 2.8) needs no such detour.

No keystream but the one block of the tag is made here, so no plaintext can be.
"""

from __future__ import annotations

import hmac
import struct

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES, ChaCha20
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.poly1305 import Poly1305

from wire.errors import OpenFailed
from wire.hpke import TAG_LENGTH, Aead, ContextSecrets

_BLOCK = 16
_LOW = (1 << 128) - 1


def check_first(secrets: ContextSecrets, aad: bytes, ciphertext: bytes) -> None:
    """Check the tag, at its end, of the first ciphertext of a context.

    Raises:
        OpenFailed: not authentic; `RecipientContext.open` would fail too, and else succeed.
    """
    body, tag = ciphertext[:-TAG_LENGTH], ciphertext[-TAG_LENGTH:]
    if len(ciphertext) < TAG_LENGTH or not hmac.compare_digest(_tag(secrets, aad, body), tag):
        raise OpenFailed("the ciphertext is not authentic")


def _tag(secrets: ContextSecrets, aad: bytes, body: bytes) -> bytes:
    # Sequence number 0: the nonce is the base nonce itself (RFC 9180, section 5.2).
    tag = _poly1305 if secrets.suite.aead == Aead.CHACHA20_POLY1305 else _gcm
    return tag(secrets.key, secrets.base_nonce, aad, body)


def _gcm(key: bytes, nonce: bytes, aad: bytes, body: bytes) -> bytes:
    joined = _padded(aad) + body
    tag = AESGCM(key).encrypt(nonce, b"", joined)
    hashed, wanted = _lengths(len(joined), 0), _lengths(len(aad), len(body))
    encryptor = Cipher(AES(key), ECB()).encryptor()  # noqa: S305 - GCM's own H, of one zero block
    subkey = int.from_bytes(encryptor.update(bytes(_BLOCK)), "big")
    correction = _times(hashed ^ wanted, subkey)
    return (int.from_bytes(tag, "big") ^ correction).to_bytes(TAG_LENGTH, "big")


def _lengths(aad: int, body: int) -> int:
    return 8 * aad << 64 | 8 * body


def _times(public: int, secret: int) -> int:
    """Multiply in GF(2^128), the most significant bit being the coefficient of x^0.

    What is done depends on the bits of `public` alone.
    """
    wide, product = secret << 128, 0
    for power in range(128):
        if public >> (127 - power) & 1:
            product ^= wide >> power
    # x^128 = 1 + x + x^2 + x^7, for what lies beyond; what that pushes beyond again, once more.
    for _ in range(2):
        beyond = (product & _LOW) << 128
        product = product >> 128 << 128
        product ^= beyond ^ beyond >> 1 ^ beyond >> 2 ^ beyond >> 7
    return product >> 128


def _poly1305(key: bytes, nonce: bytes, aad: bytes, body: bytes) -> bytes:
    block = Cipher(ChaCha20(key, bytes(4) + nonce), mode=None).encryptor()
    one_time = block.update(bytes(32))
    lengths = struct.pack("<QQ", len(aad), len(body))
    return Poly1305.generate_tag(one_time, _padded(aad) + _padded(body) + lengths)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _BLOCK)
