"""Ed25519 (RFC 8032), wrapped once for notes and leaves: raw keys in, our errors out."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from transparency.errors import BadSignature

SEED_LENGTH = 32
PUBLIC_KEY_LENGTH = 32
SIGNATURE_LENGTH = 64


def private_key(seed: bytes) -> Ed25519PrivateKey:
    """Return the private key of a 32-byte seed.

    Raises:
        ValueError: another length.
    """
    return Ed25519PrivateKey.from_private_bytes(seed)


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """Return the raw 32-byte public key."""
    return key.public_key().public_bytes_raw()


def verify(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Check one signature.

    Raises:
        BadSignature: it does not verify, or the key is not an Ed25519 public key.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise BadSignature("an Ed25519 signature does not verify") from None
