"""RSA blind signatures, the client's half (RFC 9474): blind, finalize, verify.

All four named variants are SHA-384, MGF1 with SHA-384, and differ in two ways: the salt is 48
bytes (PSS) or none (PSSZERO), and the message is used as it is (Deterministic) or behind 32 random
bytes (Randomized; `prepare`). Privacy Pass uses RSABSSA-SHA384-PSS-Deterministic.

The signer's private operation is not here: `cryptography` offers none, and `pow` is no substitute.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from wire.errors import BadSignature, Malformed

SALT_LENGTH = 48
"""Bytes of the salt in the PSS variants: the length of the hash. PSSZERO has 0."""

PREFIX_LENGTH = 32
"""Random bytes in front of the message in the Randomized variants (RFC 9474, section 4.1)."""

_HASH_LENGTH = 48
_EXTRA_LENGTH = 16  # 128 bits beyond the modulus: what reduction then leaves of bias is 2^-128


@dataclass(frozen=True)
class Blinding:
    """What undoes the blinding of one message. A secret of the client, for one `finalize`."""

    inverse: int = field(repr=False)
    salt_length: int


def blind_length(public_key: RSAPublicKey) -> int:
    """Return how many uniformly random bytes `blind` wants as its `blind`."""
    return _length(public_key) + _EXTRA_LENGTH


def prepare(message: bytes, prefix: bytes) -> bytes:
    """Prepare a message for a Randomized variant; `prefix` is 32 random bytes.

    Raises:
        ValueError: `prefix` is not 32 bytes long.
    """
    if len(prefix) != PREFIX_LENGTH:
        raise ValueError("the prefix of a randomised message is 32 bytes long")
    return prefix + message


def blind(
    public_key: RSAPublicKey, message: bytes, *, salt: bytes, blind: bytes
) -> tuple[bytes, Blinding]:
    """Blind a prepared message (section 4.2): what the signer is sent, and how to undo it.

    Args:
        public_key: the signer's.
        message: prepared already.
        salt: 48 random bytes, or none for the PSSZERO variants.
        blind: `blind_length` uniformly random bytes; or r itself, as published vectors give it,
            in exactly the length of the modulus.

    Raises:
        ValueError: `salt` or `blind` has another length, or r is not below the modulus.
        Malformed: the key does not suit the message or r (for any real key: never).
    """
    n, e = _numbers(public_key)
    r = _blinding_factor(public_key, blind)
    encoded = int.from_bytes(_encode_pss(message, salt, n.bit_length() - 1), "big")
    if math.gcd(encoded, n) != 1 or math.gcd(r, n) != 1:
        raise Malformed("the key's modulus shares a factor with the message or the blind")
    blinded = encoded * pow(r, e, n) % n
    return blinded.to_bytes(_length(public_key), "big"), Blinding(pow(r, -1, n), len(salt))


def finalize(
    public_key: RSAPublicKey, message: bytes, blind_signature: bytes, blinding: Blinding
) -> bytes:
    """Turn the signer's answer into a signature of the prepared message (section 4.4).

    Raises:
        Malformed: the answer is not of the modulus's length.
        BadSignature: the signer signed something else, or with another key.
    """
    if len(blind_signature) != _length(public_key):
        raise Malformed("a blind signature is as long as the modulus")
    n = _numbers(public_key)[0]
    signed = int.from_bytes(blind_signature, "big")
    if signed >= n:
        raise Malformed("a blind signature is smaller than the modulus")
    signature = (signed * blinding.inverse % n).to_bytes(_length(public_key), "big")
    verify(public_key, message, signature, salt_length=blinding.salt_length)
    return signature


def verify(
    public_key: RSAPublicKey, message: bytes, signature: bytes, *, salt_length: int = SALT_LENGTH
) -> None:
    """Verify a signature of a prepared message: plain RSASSA-PSS (section 4.5).

    Raises:
        BadSignature: it does not verify.
    """
    scheme = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length)
    try:
        public_key.verify(signature, message, scheme, hashes.SHA384())
    except InvalidSignature:
        raise BadSignature("the signature does not verify") from None


def _numbers(public_key: RSAPublicKey) -> tuple[int, int]:
    numbers = public_key.public_numbers()
    return numbers.n, numbers.e


def _length(public_key: RSAPublicKey) -> int:
    return (public_key.key_size + 7) // 8


def _blinding_factor(public_key: RSAPublicKey, blind: bytes) -> int:
    n = _numbers(public_key)[0]
    r = int.from_bytes(blind, "big")
    if len(blind) == blind_length(public_key):
        r %= n
    elif len(blind) != _length(public_key) or r >= n:
        raise ValueError("the blind is neither of the wanted length nor a number below the modulus")
    return r


def _mask(seed: bytes, length: int) -> bytes:
    """MGF1 with SHA-384 (RFC 8017, appendix B.2.1)."""
    blocks = -(-length // _HASH_LENGTH)
    stream = b"".join(
        hashlib.sha384(seed + counter.to_bytes(4, "big")).digest() for counter in range(blocks)
    )
    return stream[:length]


def _encode_pss(message: bytes, salt: bytes, bits: int) -> bytes:
    """EMSA-PSS-ENCODE with SHA-384 (RFC 8017, section 9.1.1)."""
    if len(salt) not in (0, SALT_LENGTH):
        raise ValueError("the salt is 48 bytes long, or none")
    length = -(-bits // 8)
    digest = hashlib.sha384(message).digest()
    hashed = hashlib.sha384(bytes(8) + digest + salt).digest()
    block = (b"\x01" + salt).rjust(length - _HASH_LENGTH - 1, b"\0")
    mask = _mask(hashed, len(block))
    masked = bytes(a ^ b for a, b in zip(block, mask, strict=True))
    unused = 8 * length - bits
    return bytes([masked[0] & 0xFF >> unused]) + masked[1:] + hashed + b"\xbc"
