"""The handshake messages of TLS 1.3 (RFC 8446, section 4), as far as our server needs them.

One version, one group (X25519), one signature scheme (ECDSA on P-256), two cipher suites of one
hash. What a client offers beside them is passed over; what is malformed, given twice or in
contradiction to the specification ends the handshake with the alert that the RFC names.

    client ->  ClientHello        legacy_version, random, session id, suites, extensions
    server ->  ServerHello        or a HelloRetryRequest, where X25519 was offered without a share
               EncryptedExtensions, Certificate, CertificateVerify, Finished
    client ->  Finished
    both       KeyUpdate
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from wire.errors import WireError


class Alert(IntEnum):
    """The alerts we send or understand (RFC 8446, section 6)."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    HANDSHAKE_FAILURE = 40
    ILLEGAL_PARAMETER = 47
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INTERNAL_ERROR = 80
    USER_CANCELED = 90
    MISSING_EXTENSION = 109
    NO_APPLICATION_PROTOCOL = 120


class TlsFailure(WireError):
    """The connection cannot go on. `alert` is what the peer is told; None if it told us."""

    def __init__(self, alert: Alert | None, reason: str) -> None:
        super().__init__(f"tls: {reason}")
        self.alert = alert


class Handshake(IntEnum):
    """Types of handshake messages."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    CERTIFICATE_VERIFY = 15
    FINISHED = 20
    KEY_UPDATE = 24
    MESSAGE_HASH = 254


class CipherSuite(IntEnum):
    """The suites we speak: the one that everybody must have, and one without AES hardware."""

    AES_128_GCM_SHA256 = 0x1301
    CHACHA20_POLY1305_SHA256 = 0x1303


class _Extension(IntEnum):
    SUPPORTED_GROUPS = 10
    SIGNATURE_ALGORITHMS = 13
    ALPN = 16
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    KEY_SHARE = 51


HTTP_1_1 = b"http/1.1"
"""The one application protocol (ALPN, RFC 7301)."""

MAX_CLIENT_HELLO = 16 * 1024
"""Bytes of a ClientHello; with a post-quantum share it is two thousand."""

RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a HelloRetryRequest: SHA-256 of its name (RFC 8446, section 4.1.3)."""

_LEGACY_VERSION = 0x0303
_TLS_1_3 = 0x0304
_X25519 = 0x001D
_ECDSA_P256_SHA256 = 0x0403
_SHARE_LENGTH = 32
_VERIFY_CONTEXT = b" " * 64 + b"TLS 1.3, server CertificateVerify" + b"\x00"


@dataclass(frozen=True)
class ClientHello:
    """What of a ClientHello decides the handshake.

    Attributes:
        random: 32 bytes.
        session_id: echoed, at most 32 bytes.
        suite: the first of the client's cipher suites that is one of ours.
        share: its X25519 key share; None if it offers the group and sent no share of it.
        http: whether it asked for HTTP/1.1 by ALPN, and so must be told.
    """

    random: bytes
    session_id: bytes
    suite: CipherSuite
    share: bytes | None
    http: bool


class _Reader:
    """Reads the presentation language of RFC 8446, section 3; whatever is short is an error."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def empty(self) -> bool:
        return self._at == len(self._data)

    def take(self, length: int) -> bytes:
        if length > len(self._data) - self._at:
            raise TlsFailure(Alert.DECODE_ERROR, "a message ends early")
        self._at += length
        return self._data[self._at - length : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int, *, least: int = 0, most: int = 2**16) -> bytes:
        """Read a vector whose length has `size` bytes."""
        data = self.take(self.number(size))
        if not least <= len(data) <= most:
            raise TlsFailure(Alert.DECODE_ERROR, "a vector of a length that may not be")
        return data

    def end(self) -> None:
        if not self.empty:
            raise TlsFailure(Alert.DECODE_ERROR, "a message has more than its fields")


def parse_client_hello(body: bytes) -> ClientHello:
    """Parse a ClientHello, without the four bytes of its header.

    Raises:
        TlsFailure: malformed, not of TLS 1.3, or with nothing that we speak as well.
    """
    reader = _Reader(body)
    if reader.number(2) != _LEGACY_VERSION:
        raise TlsFailure(Alert.PROTOCOL_VERSION, "a ClientHello of an older version")
    random = reader.take(32)
    session_id = reader.vector(1, most=32)
    offered = _numbers(reader.vector(2, least=2))
    compression = reader.vector(1, least=1)
    # An old ClientHello may end here; one of TLS 1.3 cannot.
    extensions = _extensions(b"" if reader.empty else reader.vector(2))
    reader.end()
    _check_version(extensions)
    if compression != b"\x00":
        raise TlsFailure(Alert.ILLEGAL_PARAMETER, "compression")
    if _Extension.EARLY_DATA in extensions:
        # Nobody was given a ticket: there is no key it could be under.
        raise TlsFailure(Alert.ILLEGAL_PARAMETER, "early data without a session")
    _check_signatures(extensions)
    suite = next((suite for suite in offered if suite in set(CipherSuite)), None)
    if suite is None:
        raise TlsFailure(Alert.HANDSHAKE_FAILURE, "no cipher suite in common")
    share = _x25519_share(extensions)
    return ClientHello(random, session_id, CipherSuite(suite), share, _wants_http(extensions))


def _extensions(data: bytes) -> Mapping[int, bytes]:
    reader = _Reader(data)
    extensions: dict[int, bytes] = {}
    while not reader.empty:
        if _Extension.PRE_SHARED_KEY in extensions:
            raise TlsFailure(Alert.ILLEGAL_PARAMETER, "an extension behind pre_shared_key")
        kind = reader.number(2)
        if kind in extensions:
            raise TlsFailure(Alert.ILLEGAL_PARAMETER, "an extension is given twice")
        extensions[kind] = reader.vector(2)
    return extensions


def _check_version(extensions: Mapping[int, bytes]) -> None:
    versions = extensions.get(_Extension.SUPPORTED_VERSIONS)
    if versions is None or _TLS_1_3 not in _whole(versions, 1):
        raise TlsFailure(Alert.PROTOCOL_VERSION, "a client that does not speak TLS 1.3")


def _check_signatures(extensions: Mapping[int, bytes]) -> None:
    schemes = extensions.get(_Extension.SIGNATURE_ALGORITHMS)
    if schemes is None:
        raise TlsFailure(Alert.MISSING_EXTENSION, "no signature_algorithms")
    if _ECDSA_P256_SHA256 not in _whole(schemes, 2):
        raise TlsFailure(Alert.HANDSHAKE_FAILURE, "no signature scheme in common")


def _x25519_share(extensions: Mapping[int, bytes]) -> bytes | None:
    groups = extensions.get(_Extension.SUPPORTED_GROUPS)
    offered = extensions.get(_Extension.KEY_SHARE)
    if groups is None or offered is None:
        raise TlsFailure(Alert.MISSING_EXTENSION, "no supported_groups or no key_share")
    named = _whole(groups, 2)
    shares = dict(_shares(offered, named))
    if _X25519 not in named:
        raise TlsFailure(Alert.HANDSHAKE_FAILURE, "no group in common")
    return shares.get(_X25519)


def _shares(data: bytes, named: list[int]) -> Iterator[tuple[int, bytes]]:
    outer = _Reader(data)
    reader = _Reader(outer.vector(2))
    outer.end()
    seen = set()
    while not reader.empty:
        group, share = reader.number(2), reader.vector(2, least=1)
        if group in seen or group not in named:
            raise TlsFailure(Alert.ILLEGAL_PARAMETER, "a share given twice, or of no named group")
        if group == _X25519 and len(share) != _SHARE_LENGTH:
            raise TlsFailure(Alert.ILLEGAL_PARAMETER, "an X25519 share that is none")
        seen.add(group)
        yield group, share


def _wants_http(extensions: Mapping[int, bytes]) -> bool:
    data = extensions.get(_Extension.ALPN)
    if data is None:
        return False
    outer = _Reader(data)
    reader = _Reader(outer.vector(2, least=2))
    outer.end()
    names = []
    while not reader.empty:
        names.append(reader.vector(1, least=1))
    if HTTP_1_1 not in names:
        raise TlsFailure(Alert.NO_APPLICATION_PROTOCOL, "a client that does not speak HTTP/1.1")
    return True


def _whole(data: bytes, size: int) -> list[int]:
    """Return the 16-bit numbers of an extension that is one vector of them."""
    reader = _Reader(data)
    numbers = _numbers(reader.vector(size, least=2))
    reader.end()
    return numbers


def _numbers(data: bytes) -> list[int]:
    if len(data) % 2:
        raise TlsFailure(Alert.DECODE_ERROR, "a list of 16-bit numbers of an odd length")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


# ---- what the server sends ----


def message(kind: Handshake, body: bytes) -> bytes:
    """Return a handshake message: its header and `body`."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def server_hello(hello: ClientHello, random: bytes, share: bytes) -> bytes:
    """Return the ServerHello that answers `hello` with our X25519 share."""
    key_share = _X25519.to_bytes(2, "big") + _vector(share, 2)
    return _server_hello(hello, random, key_share)


def hello_retry_request(hello: ClientHello) -> bytes:
    """Return the message that asks for an X25519 share."""
    return _server_hello(hello, RETRY_RANDOM, _X25519.to_bytes(2, "big"))


def _server_hello(hello: ClientHello, random: bytes, key_share: bytes) -> bytes:
    extensions = _extension(_Extension.KEY_SHARE, key_share)
    extensions += _extension(_Extension.SUPPORTED_VERSIONS, _TLS_1_3.to_bytes(2, "big"))
    return message(
        Handshake.SERVER_HELLO,
        _LEGACY_VERSION.to_bytes(2, "big")
        + random
        + _vector(hello.session_id, 1)
        + hello.suite.to_bytes(2, "big")
        + b"\x00"
        + _vector(extensions, 2),
    )


def encrypted_extensions(*, http: bool) -> bytes:
    """Return EncryptedExtensions; with `http` it says that HTTP/1.1 was chosen."""
    chosen = _extension(_Extension.ALPN, _vector(_vector(HTTP_1_1, 1), 2)) if http else b""
    return message(Handshake.ENCRYPTED_EXTENSIONS, _vector(chosen, 2))


def certificate(der: bytes) -> bytes:
    """Return Certificate with the one certificate (DER)."""
    entry = _vector(der, 3) + _vector(b"", 2)
    return message(Handshake.CERTIFICATE, _vector(b"", 1) + _vector(entry, 3))


def to_be_signed(transcript_hash: bytes) -> bytes:
    """Return what a server signs in its CertificateVerify (RFC 8446, section 4.4.3).

    The context string in it is of TLS 1.3 servers alone: a key that signs nothing else than this
    can be used for nothing else.
    """
    if len(transcript_hash) != 32:
        raise ValueError("a transcript hash has 32 bytes")
    return _VERIFY_CONTEXT + transcript_hash


def certificate_verify(signature: bytes) -> bytes:
    """Return CertificateVerify with an ECDSA signature (DER) by the certificate's key."""
    scheme = _ECDSA_P256_SHA256.to_bytes(2, "big")
    return message(Handshake.CERTIFICATE_VERIFY, scheme + _vector(signature, 2))


def _vector(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "big") + data


def _extension(kind: _Extension, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + _vector(data, 2)
