"""HPKE base mode (RFC 9180): pyhpke's key schedule, with X-Wing plugged in beside X25519.

Only this file and `wire.xwing` know the library. Two of its habits are corrected here: an open
that fails moves its sequence number, so a context that failed once is refused from then on; and
some failures leave it as a bare ValueError, which become `OpenFailed` or `Malformed`.

A context belongs to one task: nothing in it is locked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Self

from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMInterface, KEMKeyInterface, PyHPKEError
from pyhpke.aead import AEAD, AEADParams
from pyhpke.consts import Mode
from pyhpke.context_interface import ContextInterface
from pyhpke.kdf import KDF
from pyhpke.kem import KEM
from pyhpke.kem_key import KEMKeyPair
from pyhpke.keys.x25519_key import X25519Key
from pyhpke.recipient_context import RecipientContext as _PyRecipientContext
from pyhpke.sender_context import SenderContext as _PySenderContext

from wire.errors import Malformed, OpenFailed, Truncated, Unsupported
from wire.xwing import XWingKem

SEED_LENGTH = 32
"""Bytes of the seed that a private key of either KEM is made from."""

TAG_LENGTH = 16
"""Nt: every AEAD here adds this many bytes (RFC 9180, section 7.3)."""

_EXPORTER_SECRET_LENGTH = 32  # Nh of HKDF-SHA256


class Kem(IntEnum):
    """Key encapsulation mechanisms (RFC 9180, section 7.1; X-Wing from its draft)."""

    X25519 = 0x0020
    XWING = 0x647A


class Kdf(IntEnum):
    """Key derivation functions (RFC 9180, section 7.2)."""

    HKDF_SHA256 = 1


class Aead(IntEnum):
    """Authenticated ciphers (RFC 9180, section 7.3)."""

    AES_128_GCM = 1
    AES_256_GCM = 2
    CHACHA20_POLY1305 = 3


PUBLIC_KEY_LENGTH = {Kem.X25519: 32, Kem.XWING: 1216}
"""Npk, in bytes."""

ENC_LENGTH = {Kem.X25519: 32, Kem.XWING: 1120}
"""Nenc, in bytes."""

_AEADS = {
    Aead.AES_128_GCM: AEAD(AEADId.AES128_GCM),
    Aead.AES_256_GCM: AEAD(AEADId.AES256_GCM),
    Aead.CHACHA20_POLY1305: AEAD(AEADId.CHACHA20_POLY1305),
}


@dataclass(frozen=True)
class Suite:
    """The three algorithms of one HPKE context."""

    kem: Kem
    kdf: Kdf
    aead: Aead

    @property
    def key_length(self) -> int:
        """Nk: bytes of the AEAD key, 16 or 32."""
        return _AEADS[self.aead].key_size

    @property
    def nonce_length(self) -> int:
        """Nn: bytes of the AEAD nonce, 12."""
        return _AEADS[self.aead].nonce_size

    @property
    def enc_length(self) -> int:
        """Nenc: bytes of the encapsulated key, 32 or 1120."""
        return ENC_LENGTH[self.kem]

    @property
    def suite_id(self) -> bytes:
        """The ten bytes that bind every derivation to the algorithms (RFC 9180, section 5.1)."""
        return b"HPKE" + struct.pack(">HHH", self.kem, self.kdf, self.aead)


def _kem(kem: Kem) -> KEMInterface:
    return XWingKem() if kem == Kem.XWING else KEM(KEMId.DHKEM_X25519_HKDF_SHA256)


class PrivateKey:
    """A recipient's private key, or an X25519 ephemeral one. Made by `generate` only."""

    __slots__ = ("kem", "kem_key", "public_bytes")

    def __init__(self, kem: Kem, key: KEMKeyInterface, public_bytes: bytes) -> None:
        self.kem = kem
        self.public_bytes = public_bytes
        self.kem_key = key

    @classmethod
    def generate(cls, kem: Kem, seed: bytes) -> Self:
        """Make the key of a 32-byte seed, always the same one.

        The seed is the serialised private key of either KEM: the X25519 scalar, or X-Wing's seed.

        Raises:
            ValueError: the seed is not 32 bytes long.
        """
        if len(seed) != SEED_LENGTH:
            raise ValueError("a private key is made from 32 bytes")
        key = _kem(kem).deserialize_private_key(seed)
        if kem == Kem.XWING:
            return cls(kem, key, key.to_public_bytes())
        return cls(kem, key, key.raw.public_key().public_bytes_raw())

    def ephemeral_pair(self) -> KEMKeyPair:
        """Return the X25519 key pair as pyhpke takes it."""
        return KEMKeyPair(self.kem_key, X25519Key(self.kem_key.raw.public_key()))


@dataclass(frozen=True)
class ContextSecrets:
    """All that a fresh context consists of: enough to open one request and seal its response.

    The keeper of the private keys hands these on to the one process that serves the request.
    `repr` shows no key.
    """

    suite: Suite
    key: bytes = field(repr=False)
    base_nonce: bytes = field(repr=False)
    exporter_secret: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Encode: kem, kdf, aead (16 bits each), key, base nonce, exporter secret."""
        ids = struct.pack(">HHH", self.suite.kem, self.suite.kdf, self.suite.aead)
        return ids + self.key + self.base_nonce + self.exporter_secret

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode exactly what `to_bytes` makes.

        Raises:
            Truncated: too short. Malformed: trailing bytes. Unsupported: unknown algorithms.
        """
        if len(data) < 6:
            raise Truncated("context secrets are cut off")
        suite = suite_of(*struct.unpack(">HHH", data[:6]))
        nonce_at = 6 + suite.key_length
        exporter_at = nonce_at + suite.nonce_length
        end = exporter_at + _EXPORTER_SECRET_LENGTH
        if len(data) < end:
            raise Truncated("context secrets are cut off")
        if len(data) > end:
            raise Malformed("trailing bytes after context secrets")
        return cls(suite, data[6:nonce_at], data[nonce_at:exporter_at], data[exporter_at:])


def suite_of(kem: int, kdf: int, aead: int) -> Suite:
    """Return the suite of three numbers read from the wire.

    Raises:
        Unsupported: one of them names an algorithm that is not accepted.
    """
    try:
        return Suite(Kem(kem), Kdf(kdf), Aead(aead))
    except ValueError:
        raise Unsupported("an HPKE algorithm that is not accepted") from None


class _KeySchedule(CipherSuite):
    """pyhpke's key schedule (RFC 9180, section 5.1), which gives its secrets away."""

    def secrets(self, suite: Suite, shared_secret: bytes, info: bytes) -> ContextSecrets:
        _, params = self._key_schedule(Mode.BASE, shared_secret, info, b"", b"")
        return ContextSecrets(suite, params.key, params.base_nonce, params.exporter_secret)


def _schedule(suite: Suite, shared_secret: bytes, info: bytes) -> ContextSecrets:
    schedule = _KeySchedule(_kem(suite.kem), _kdf(suite), _AEADS[suite.aead])
    return schedule.secrets(suite, shared_secret, info)


def _kdf(suite: Suite) -> KDF:
    return KDF(KDFId.HKDF_SHA256, suite.suite_id)


def _aead_params(secrets: ContextSecrets) -> AEADParams:
    aead = _AEADS[secrets.suite.aead]
    return AEADParams(aead, secrets.key, secrets.base_nonce, 0, secrets.exporter_secret)


def _export(context: ContextInterface, label: bytes, length: int) -> bytes:
    if not 0 < length <= 255 * 32:
        raise ValueError("HKDF-SHA256 exports 1 to 8160 bytes")
    return context.export(label, length)


class SenderContext:
    """The side that encapsulated: it seals in order, and exports. Made by `setup_sender`."""

    def __init__(self, secrets: ContextSecrets) -> None:
        self.suite = secrets.suite
        self._context = _PySenderContext(_kdf(secrets.suite), _aead_params(secrets))

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """Seal the next plaintext: its ciphertext and the tag, 16 bytes more."""
        return self._context.seal(plaintext, aad)

    def export(self, context: bytes, length: int) -> bytes:
        """Export `length` bytes bound to `context` (RFC 9180, section 5.3)."""
        return _export(self._context, context, length)


class RecipientContext:
    """The side that decapsulated: it opens in order, and exports."""

    def __init__(self, secrets: ContextSecrets) -> None:
        self.suite = secrets.suite
        self._secrets = secrets
        self._context = _PyRecipientContext(_kdf(secrets.suite), _aead_params(secrets))
        self._fresh = True
        self._failed = False

    @classmethod
    def from_secrets(cls, secrets: ContextSecrets) -> Self:
        """Rebuild a context that nothing has been opened with yet."""
        return cls(secrets)

    @property
    def secrets(self) -> ContextSecrets:
        """The secrets, to rebuild this context elsewhere.

        Raises:
            OpenFailed: the context has been used; a copy would begin at sequence number 0 again.
        """
        if not self._fresh:
            raise OpenFailed("the context has been used; its secrets stay with it")
        return self._secrets

    def open(self, aad: bytes, ciphertext: bytes) -> bytes:
        """Open the next ciphertext.

        Raises:
            OpenFailed: not authentic, or an earlier one was not: one failure ends the context.
        """
        if self._failed:
            raise OpenFailed("an earlier ciphertext did not open")
        self._fresh = False
        try:
            return self._context.open(ciphertext, aad)
        except PyHPKEError:
            self._failed = True
            raise OpenFailed("the ciphertext does not open") from None

    def export(self, context: bytes, length: int) -> bytes:
        """Export `length` bytes bound to `context` (RFC 9180, section 5.3)."""
        return _export(self._context, context, length)


def setup_sender(
    suite: Suite, public_key: bytes, info: bytes, *, ephemeral: PrivateKey | None = None
) -> tuple[bytes, SenderContext]:
    """Encapsulate to `public_key`: `enc`, and the context of the sender.

    Without `ephemeral` the library draws the key. An ephemeral key is for replaying vectors and
    must never serve twice. X-Wing takes none.

    Raises:
        Malformed: not a public key of the KEM, or a degenerate one.
        Unsupported: `ephemeral` given and not for X25519.
    """
    if len(public_key) != PUBLIC_KEY_LENGTH[suite.kem]:
        raise Malformed("the public key is not of the KEM's length")
    if ephemeral is not None and not suite.kem == ephemeral.kem == Kem.X25519:
        raise Unsupported("only X25519 takes an ephemeral key")
    pair = None if ephemeral is None else ephemeral.ephemeral_pair()
    kem = _kem(suite.kem)
    try:
        shared_secret, enc = kem.encap(kem.deserialize_public_key(public_key), None, pair)
    except (ValueError, PyHPKEError):
        raise Malformed("not a public key of the KEM") from None
    return enc, SenderContext(_schedule(suite, shared_secret, info))


def setup_recipient(
    suite: Suite, private_key: PrivateKey, enc: bytes, info: bytes
) -> RecipientContext:
    """Decapsulate `enc`: the context of the recipient.

    A wrong `enc` is not noticed here (it gives a context that opens nothing), except a degenerate
    one.

    Raises:
        Malformed: `enc` is not of the KEM's length.
        OpenFailed: a degenerate `enc`, such as all zeros.
        Unsupported: the private key is of another KEM.
    """
    if private_key.kem != suite.kem:
        raise Unsupported("the private key is of another KEM")
    if len(enc) != suite.enc_length:
        raise Malformed("enc is not of the KEM's length")
    try:
        shared_secret = _kem(suite.kem).decap(enc, private_key.kem_key)
    except (ValueError, PyHPKEError):
        raise OpenFailed("enc does not decapsulate") from None
    return RecipientContext(_schedule(suite, shared_secret, info))
