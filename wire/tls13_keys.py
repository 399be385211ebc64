"""The key schedule and the record protection of TLS 1.3 (RFC 8446, sections 5.2, 5.3 and 7).

Only suites with SHA-256: every secret and every transcript hash has 32 bytes. Nothing is derived
from pre-shared keys, and no resumption secret exists.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from wire.tls13_messages import Alert, CipherSuite, TlsFailure

HASH_LENGTH = 32
TAG_LENGTH = 16
MAX_PLAINTEXT = 2**14
"""Most bytes of content in a record."""

MAX_CIPHERTEXT = MAX_PLAINTEXT + 256

MAX_RECORDS = 2**24
"""Records under one key; AES-GCM bears a little more (RFC 8446, section 5.5)."""

_ZEROS = bytes(HASH_LENGTH)
_EMPTY_HASH = hashlib.sha256().digest()
_KEY_LENGTH = {CipherSuite.AES_128_GCM_SHA256: 16, CipherSuite.CHACHA20_POLY1305_SHA256: 32}
_IV_LENGTH = 12


def expand_label(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """Return HKDF-Expand-Label; at most one block of output."""
    if length > HASH_LENGTH:
        raise ValueError("more than one block")
    full = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(full)]) + full + bytes([len(context)]) + context
    return hmac.digest(secret, info + b"\x01", "sha256")[:length]


def finished(secret: bytes, transcript_hash: bytes) -> bytes:
    """Return the verify_data of a Finished under a handshake traffic secret."""
    key = expand_label(secret, b"finished", b"", HASH_LENGTH)
    return hmac.digest(key, transcript_hash, "sha256")


def next_secret(secret: bytes) -> bytes:
    """Return the traffic secret that follows a KeyUpdate."""
    return expand_label(secret, b"traffic upd", b"", HASH_LENGTH)


class KeySchedule:
    """The secrets of one connection, from the shared secret of its key exchange on."""

    def __init__(self, shared_secret: bytes) -> None:
        early = hmac.digest(_ZEROS, _ZEROS, "sha256")
        self._handshake = _extract(early, shared_secret)
        self._master = _extract(self._handshake, _ZEROS)

    def handshake_secrets(self, transcript_hash: bytes) -> tuple[bytes, bytes]:
        """Return the client's and the server's secret, given the hash up to ServerHello."""
        return self._traffic(self._handshake, b"hs", transcript_hash)

    def application_secrets(self, transcript_hash: bytes) -> tuple[bytes, bytes]:
        """Return the client's and the server's secret, given the hash up to the Finished."""
        return self._traffic(self._master, b"ap", transcript_hash)

    @staticmethod
    def _traffic(secret: bytes, stage: bytes, transcript_hash: bytes) -> tuple[bytes, bytes]:
        client = expand_label(secret, b"c " + stage + b" traffic", transcript_hash, HASH_LENGTH)
        server = expand_label(secret, b"s " + stage + b" traffic", transcript_hash, HASH_LENGTH)
        return client, server


def _extract(secret: bytes, material: bytes) -> bytes:
    salt = expand_label(secret, b"derived", _EMPTY_HASH, HASH_LENGTH)
    return hmac.digest(salt, material, "sha256")


class Protection:
    """Protects, or opens, the records of one direction under one traffic secret."""

    def __init__(self, suite: CipherSuite, secret: bytes) -> None:
        key = expand_label(secret, b"key", b"", _KEY_LENGTH[suite])
        aead = AESGCM if suite is CipherSuite.AES_128_GCM_SHA256 else ChaCha20Poly1305
        self._aead = aead(key)
        self._iv = int.from_bytes(expand_label(secret, b"iv", b"", _IV_LENGTH), "big")
        self._counter = 0
        self.suite = suite
        self.secret = secret

    def updated(self) -> Protection:
        """Return the protection after a KeyUpdate."""
        return Protection(self.suite, next_secret(self.secret))

    def seal(self, content_type: int, content: bytes) -> bytes:
        """Return the record that carries `content`.

        Raises:
            TlsFailure: more records than one key bears.
        """
        inner = content + bytes([content_type])
        header = b"\x17\x03\x03" + (len(inner) + TAG_LENGTH).to_bytes(2, "big")
        return header + self._aead.encrypt(self._nonce(), inner, header)

    def open(self, header: bytes, ciphertext: bytes) -> tuple[int, bytes]:
        """Return content type and content of a record.

        Raises:
            TlsFailure: not authentic, too long, or of no content type.
        """
        try:
            inner = self._aead.decrypt(self._nonce(), ciphertext, header)
        except InvalidTag:
            raise TlsFailure(Alert.BAD_RECORD_MAC, "a record that is not authentic") from None
        if len(inner) > MAX_PLAINTEXT + 1:
            raise TlsFailure(Alert.RECORD_OVERFLOW, "a record that is too long")
        content = inner.rstrip(b"\x00")
        if not content:
            raise TlsFailure(Alert.UNEXPECTED_MESSAGE, "a record of no content type")
        return content[-1], content[:-1]

    def _nonce(self) -> bytes:
        if self._counter == MAX_RECORDS:
            raise TlsFailure(Alert.INTERNAL_ERROR, "as many records as a key bears")
        nonce = (self._iv ^ self._counter).to_bytes(_IV_LENGTH, "big")
        self._counter += 1
        return nonce
