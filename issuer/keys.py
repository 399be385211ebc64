"""The keys that sign blindly: RSA-2048, published as RFC 9578 token keys (type 0x0002).

An issuer key signs tokens and nothing else: under a raw private operation any other use of the key
would be open to whoever asks for a blind signature (RFC 9474, section 7).

A key file is PKCS#8 PEM behind two lines of explanatory text (RFC 7468, section 2), so that a key
and its period (`wire.token_life`) cannot be separated:

    Not-Before: 2026-01-01T00:00:00Z
    Not-After: 2026-04-01T00:00:00Z
    -----BEGIN PRIVATE KEY-----
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
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
from wire.token_life import MAX_LIVE, KeyPeriod, most_live

MODULUS_BITS = 2048
PUBLIC_EXPONENT = 65537

ALWAYS = KeyPeriod(0, 2**40)
"""For a key whose period nobody asks for: that of a published vector, or of a measurement."""


def generate() -> bytes:
    """Return a new issuer key as PKCS#8 PEM, not encrypted."""
    return _pkcs8(generate_private_key(PUBLIC_EXPONENT, MODULUS_BITS), Encoding.PEM)


def create_key_file(path: Path, period: KeyPeriod, *, unlike: Collection[int] = ()) -> None:
    """Write a new issuer key to `path`, readable by its owner alone.

    Args:
        path: the file, which must not exist.
        period: when the key is in use.
        unlike: truncated key ids that it must not have: those of keys that may be live beside it.

    Raises:
        FileExistsError: a key is never overwritten: the tokens it signed would turn worthless.
    """
    pem = generate()
    while _truncated_key_id(pem) in unlike:  # one time in 256
        pem = generate()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_period_lines(period) + pem)


def _truncated_key_id(pem: bytes) -> int:
    return privacy_pass.key_id(privacy_pass.public_key_spki(_load(pem).public_key()))[-1]


_TIME = "%Y-%m-%dT%H:%M:%SZ"
_PERIOD = re.compile(
    rb"\ANot-Before: (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\r?\n"
    rb"Not-After: (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\r?\n-----BEGIN "
)


def _period_lines(period: KeyPeriod) -> bytes:
    first, last = (
        datetime.fromtimestamp(at, UTC).strftime(_TIME)
        for at in (period.not_before, period.not_after)
    )
    return f"Not-Before: {first}\nNot-After: {last}\n".encode()


def parse_period(content: bytes) -> KeyPeriod:
    """Read the period of a key file; raises KeyUnusable if it states none."""
    match = _PERIOD.match(content)
    if match is None:
        raise KeyUnusable("the key file does not begin with Not-Before and Not-After")
    try:
        begin, end = (
            int(datetime.strptime(text.decode(), _TIME).replace(tzinfo=UTC).timestamp())
            for text in match.groups()
        )
        return KeyPeriod(begin, end)
    except ValueError:
        raise KeyUnusable("the key file's period is none") from None


class IssuerKey:
    """One key: what the directory publishes of it, and the signing itself.

    Use it as a context manager, or close it; any thread may sign at any time.
    """

    def __init__(self, pem: bytes, period: KeyPeriod = ALWAYS) -> None:
        """Load an unencrypted PKCS#8 PEM key and sign once to see that it works.

        Raises:
            KeyUnusable: no such key, or not RSA-2048 with exponent 65537.
            LibcryptoMissing: there is nothing to sign with.
            SigningFault: the first signature was wrong.
        """
        key = _load(pem)
        self.period = period
        """When the key is in use, as its leaf in the log says."""
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
        content = path.read_bytes()
        return cls(content, parse_period(content))

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
    """The keys of an issuer over time: those that sign now, retired ones, and the next."""

    def __init__(self, keys: Sequence[IssuerKey]) -> None:
        """Take the keys over: closing the ring closes them.

        Raises:
            KeyUnusable: there is none, two share the byte by which requests name them, or more
                than two would be live at once.
        """
        self.keys = tuple(sorted(keys, key=lambda key: key.period.not_before, reverse=True))
        """The keys, the latest to begin first."""
        if not keys:
            raise KeyUnusable("an issuer needs at least one key")
        if len({key.truncated_key_id for key in keys}) != len(keys):
            raise KeyUnusable("two keys have the same truncated key id: replace the newer one")
        if most_live(key.period for key in keys) > MAX_LIVE:
            raise KeyUnusable(f"more than {MAX_LIVE} keys would be live at once")

    @classmethod
    def from_files(cls, paths: Iterable[Path]) -> Self:
        """Load one key a file."""
        return cls([IssuerKey.from_file(path) for path in paths])

    def find(self, truncated_key_id: int, at: float) -> IssuerKey:
        """Return the key that a request names and that signs at `at`; raises UnknownKey."""
        for key in self.keys:
            if key.truncated_key_id == truncated_key_id and key.period.signs(at):
                return key
        raise UnknownKey("no key that signs now has that truncated key id")

    def exchangeable(self, key_id: bytes, at: float) -> IssuerKey:
        """Return the key of a token that may be exchanged at `at`; raises UnknownKey."""
        for key in self.keys:
            if key.key_id == key_id and key.period.exchanges(at):
                return key
        raise UnknownKey("the tokens of that key are not exchanged")

    def published(self, at: float) -> tuple[IssuerKey, ...]:
        """Return the keys whose tokens are redeemed at `at`, and the next one.

        In the order of preference: the newest that signs, the other that signs, what is to come.
        """
        known = [key for key in self.keys if key.period.redeems(at)]
        return tuple(sorted(known, key=lambda key: not key.period.signs(at)))

    def over(self, at: float) -> tuple[IssuerKey, ...]:
        """Return the keys whose tokens are worth nothing any more."""
        return tuple(key for key in self.keys if key.period.over(at))

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
