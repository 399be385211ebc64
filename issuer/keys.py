"""The keys that sign blindly: RSA-2048, published as RFC 9578 token keys (type 0x0002).

An issuer key signs tokens and nothing else: under a raw private operation any other use of the key
would be open to whoever asks for a blind signature (RFC 9474, section 7).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from issuer.errors import KeyUnusable, UnknownKey
from issuer.libcrypto import RawPrivateKey
from wire import privacy_pass

MODULUS_BITS = 2048
PUBLIC_EXPONENT = 65537


def generate() -> bytes:
    """Return a new issuer key as PKCS#8 PEM, not encrypted."""
    return _pkcs8(generate_private_key(PUBLIC_EXPONENT, MODULUS_BITS), Encoding.PEM)


def create_key_file(path: Path) -> None:
    """Write a new issuer key to `path`, readable by its owner alone.

    Raises:
        FileExistsError: a key is never overwritten: the tokens it signed would turn worthless.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(generate())


class IssuerKey:
    """One key: what the directory publishes of it, and the signing itself.

    Use it as a context manager, or close it; any thread may sign at any time.
    """

    def __init__(self, pem: bytes) -> None:
        """Load an unencrypted PKCS#8 PEM key and sign once to see that it works.

        Raises:
            KeyUnusable: no such key, or not RSA-2048 with exponent 65537.
            LibcryptoMissing: there is nothing to sign with.
            SigningFault: the first signature was wrong.
        """
        key = _load(pem)
        self.spki = privacy_pass.public_key_spki(key.public_key())
        """The public key as RFC 9578 writes it: RSASSA-PSS SubjectPublicKeyInfo, 342 bytes."""
        self.key_id = privacy_pass.key_id(self.spki)
        """SHA-256 of `spki`, 32 bytes (RFC 9578, section 6.5)."""
        self.truncated_key_id = self.key_id[-1]
        """The last byte of `key_id`: all of it that a token request names."""
        self._raw = RawPrivateKey(_pkcs8(key, Encoding.DER))
        self._raw.blind_sign(self.key_id.rjust(self._raw.size, b"\0"))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Load the key file at `path`; raises what the constructor raises, and OSError."""
        return cls(path.read_bytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the private key; signing is refused from now on."""
        self._raw.close()

    def require_in_range(self, blinded: bytes) -> None:
        """Check that this key can sign `blinded` (256 bytes); raises BlindedOutOfRange."""
        self._raw.require_in_range(blinded)

    def blind_sign(self, blinded: bytes) -> bytes:
        """Return the blind signature over `blinded`, 256 bytes (RFC 9578, section 6.2).

        Raises:
            BlindedOutOfRange: `blinded` is not below the modulus.
            SigningFault: the operation went wrong; nothing is released.
        """
        return self._raw.blind_sign(blinded)


class KeyRing:
    """The keys an issuer signs with now, the preferred one first."""

    def __init__(self, keys: Sequence[IssuerKey]) -> None:
        """Take the keys over: closing the ring closes them.

        Raises:
            KeyUnusable: there is none, or two share the byte by which requests name them.
        """
        self._by_truncated_id = {key.truncated_key_id: key for key in keys}
        if not keys:
            raise KeyUnusable("an issuer needs at least one key")
        if len(self._by_truncated_id) != len(keys):
            raise KeyUnusable("two keys have the same truncated key id: replace the newer one")

    @classmethod
    def from_files(cls, paths: Iterable[Path]) -> Self:
        """Load one key a file, the preferred one first."""
        return cls([IssuerKey.from_file(path) for path in paths])

    @property
    def keys(self) -> tuple[IssuerKey, ...]:
        """The keys in the order of preference."""
        return tuple(self._by_truncated_id.values())

    def find(self, truncated_key_id: int) -> IssuerKey:
        """Return the key a request names; raises UnknownKey."""
        try:
            return self._by_truncated_id[truncated_key_id]
        except KeyError:
            raise UnknownKey("no key of this issuer has that truncated key id") from None

    def close(self) -> None:
        """Free every private key."""
        for key in self.keys:
            key.close()


def _load(pem: bytes) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # `from None`: nothing of a private key belongs into a traceback.
        raise KeyUnusable("not an unencrypted PKCS#8 PEM private key") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size != MODULUS_BITS:
        raise KeyUnusable(f"not an RSA key of {MODULUS_BITS} bits")
    if key.public_key().public_numbers().e != PUBLIC_EXPONENT:
        raise KeyUnusable(f"the public exponent is not {PUBLIC_EXPONENT}")
    return key


def _pkcs8(key: RSAPrivateKey, encoding: Encoding) -> bytes:
    return key.private_bytes(encoding, PrivateFormat.PKCS8, NoEncryption())
