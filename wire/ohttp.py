"""Oblivious HTTP (RFC 9458, section 4) and its chunked form (draft-ietf-ohai-chunked-ohttp-08).

    Encapsulated Request  = header (7) || enc || ciphertext
    Encapsulated Response = nonce (max(Nn, Nk)) || ciphertext
    chunked               : the ciphertext becomes  {varint length || chunk} ... || 0 || final chunk

The client half makes a request and the only object able to open its response. The gateway half
works on an HPKE context, so that the private key can live in another process. Every object here
serves one message; the first failure ends it.

Where a stream ends inside the final chunk only the stream knows. So `finish`, called at its end,
opens the final chunk and returns its plaintext.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from wire import chunks
from wire.chunks import ChunkOpener, ChunkSealer
from wire.errors import OpenFailed, Truncated, Unsupported
from wire.hpke import (
    Aead,
    Kdf,
    Kem,
    PrivateKey,
    RecipientContext,
    SenderContext,
    Suite,
    setup_sender,
    suite_of,
)
from wire.key_config import KeyConfig

REQUEST_TYPE = "message/ohttp-req"
RESPONSE_TYPE = "message/ohttp-res"
CHUNKED_REQUEST_TYPE = "message/ohttp-chunked-req"
CHUNKED_RESPONSE_TYPE = "message/ohttp-chunked-res"
KEYS_TYPE = "application/ohttp-keys"

KEY_PROBLEM = "https://iana.org/assignments/http-problem-types#ohttp-key"
"""Problem type of an answer to a key or algorithm the gateway does not have (RFC 9458, s. 5.3)."""

REQUEST_SALT_LABEL = b"sottovoce request salt v1"
RESPONSE_SALT_LABEL = b"sottovoce response salt v1"
SALT_LENGTH = 32
"""Bytes of each receipt salt, exported from the context of the request."""

MAX_CHUNK = chunks.MAX_CHUNK
"""Most plaintext bytes in a chunk; longer ones are cut when sealing and refused when opening."""

HEADER_LENGTH = 7
"""Bytes of a `Header`."""

_REQUEST_LABEL = b"message/bhttp request"
_RESPONSE_LABEL = b"message/bhttp response"
_CHUNKED_REQUEST_LABEL = b"message/bhttp chunked request"
_CHUNKED_RESPONSE_LABEL = b"message/bhttp chunked response"


@dataclass(frozen=True)
class Header:
    """What a gateway reads first: which key, and which algorithms."""

    key_id: int
    kem: Kem
    kdf: Kdf
    aead: Aead

    def encode(self) -> bytes:
        """Encode in 7 bytes."""
        return struct.pack(">BHHH", self.key_id, self.kem, self.kdf, self.aead)

    @property
    def suite(self) -> Suite:
        """The HPKE algorithms."""
        return Suite(self.kem, self.kdf, self.aead)


def split(encapsulated_request: bytes) -> tuple[Header, bytes, bytes]:
    """Split an encapsulated request, chunked or not, into header, `enc` and the ciphertext.

    Raises:
        Truncated: too short for header and `enc`.
        Unsupported: an algorithm that is not accepted.
    """
    if len(encapsulated_request) < HEADER_LENGTH:
        raise Truncated("an encapsulated request is cut off")
    key_id, *ids = struct.unpack(">BHHH", encapsulated_request[:HEADER_LENGTH])
    suite = suite_of(*ids)
    end = HEADER_LENGTH + suite.enc_length
    if len(encapsulated_request) < end:
        raise Truncated("an encapsulated request is cut off")
    header = Header(key_id, suite.kem, suite.kdf, suite.aead)
    return header, encapsulated_request[HEADER_LENGTH:end], encapsulated_request[end:]


def request_info(header: Header, *, chunked: bool) -> bytes:
    """Return the `info` of the HPKE context: label || 0 || header (RFC 9458, section 4.3)."""
    return (_CHUNKED_REQUEST_LABEL if chunked else _REQUEST_LABEL) + b"\0" + header.encode()


def response_nonce_length(suite: Suite) -> int:
    """Return max(Nn, Nk): how many random bytes a response begins with, 16 or 32."""
    return max(suite.nonce_length, suite.key_length)


class _Exporter(Protocol):
    """Either side's HPKE context."""

    suite: Suite

    def export(self, context: bytes, length: int) -> bytes: ...


class _ResponseKey:
    """Key and nonces of one response (RFC 9458, section 4.4; -08, section 6.2)."""

    def __init__(self, context: _Exporter, enc: bytes, nonce: bytes, label: bytes) -> None:
        secret = context.export(label, len(nonce))
        extract = hmac.HMAC(enc + nonce, hashes.SHA256())
        extract.update(secret)
        prk = extract.finalize()
        key = HKDFExpand(hashes.SHA256(), context.suite.key_length, b"key").derive(prk)
        chacha = context.suite.aead == Aead.CHACHA20_POLY1305
        self._aead = ChaCha20Poly1305(key) if chacha else AESGCM(key)
        self._nonce = HKDFExpand(hashes.SHA256(), 12, b"nonce").derive(prk)
        self._counter = 0

    def _next_nonce(self) -> bytes:
        nonce = int.from_bytes(self._nonce, "big") ^ self._counter
        self._counter += 1
        return nonce.to_bytes(12, "big")

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        return self._aead.encrypt(self._next_nonce(), plaintext, aad)

    def open(self, aad: bytes, ciphertext: bytes) -> bytes:
        try:
            return self._aead.decrypt(self._next_nonce(), ciphertext, aad)
        except InvalidTag:
            raise OpenFailed("the response does not open") from None


# Client half.


def _setup(
    config: KeyConfig, aead: Aead, ephemeral: PrivateKey | None, *, chunked: bool
) -> tuple[Header, bytes, SenderContext]:
    if (Kdf.HKDF_SHA256, aead) not in config.algorithms:
        raise Unsupported("the key config does not offer the cipher")
    header = Header(config.key_id, config.kem, Kdf.HKDF_SHA256, aead)
    info = request_info(header, chunked=chunked)
    enc, context = setup_sender(header.suite, config.public_key, info, ephemeral=ephemeral)
    return header, enc, context


class ResponseOpener:
    """Opens the one response to one request. Made by `encapsulate`."""

    def __init__(self, context: SenderContext, enc: bytes) -> None:
        self._context = context
        self._enc = enc
        self._used = False

    def open(self, encapsulated_response: bytes) -> bytes:
        """Open the response, once, whether it succeeds or not.

        Raises:
            Truncated: shorter than its nonce. OpenFailed: not authentic, or the second call.
        """
        if self._used:
            raise OpenFailed("a response is opened once")
        self._used = True
        length = response_nonce_length(self._context.suite)
        nonce, ciphertext = encapsulated_response[:length], encapsulated_response[length:]
        if len(nonce) < length:
            raise Truncated("an encapsulated response is cut off")
        return _ResponseKey(self._context, self._enc, nonce, _RESPONSE_LABEL).open(b"", ciphertext)

    def export(self, label: bytes, length: int) -> bytes:
        """Export from the context of the request, as the gateway does with the same label."""
        return self._context.export(label, length)


class ChunkedResponseOpener:
    """Opens the one chunked response to one request. Made by `encapsulate_chunked`."""

    def __init__(self, context: SenderContext, enc: bytes) -> None:
        self._context = context
        self._enc = enc
        self._nonce = b""
        self._chunks: ChunkOpener | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the plaintext of each non-final chunk they complete.

        Raises:
            Malformed, OpenFailed: as `wire.chunks.ChunkOpener.feed`.
        """
        if self._chunks is None:
            missing = response_nonce_length(self._context.suite) - len(self._nonce)
            self._nonce += data[:missing]
            data = data[missing:]
            if len(self._nonce) < response_nonce_length(self._context.suite):
                return []
            self._chunks = ChunkOpener(self._response_key().open)
        return self._chunks.feed(data)

    def finish(self) -> bytes:
        """Say that the stream has ended; return the plaintext of the final chunk, maybe empty.

        Raises:
            Truncated: there was no final chunk. OpenFailed: it is not authentic.
        """
        if self._chunks is None:
            raise Truncated("an encapsulated response is cut off")
        return self._chunks.finish()

    def export(self, label: bytes, length: int) -> bytes:
        """Export from the context of the request, as the gateway does with the same label."""
        return self._context.export(label, length)

    def _response_key(self) -> _ResponseKey:
        return _ResponseKey(self._context, self._enc, self._nonce, _CHUNKED_RESPONSE_LABEL)


def encapsulate(
    config: KeyConfig, request: bytes, *, aead: Aead, ephemeral: PrivateKey | None = None
) -> tuple[bytes, ResponseOpener]:
    """Encapsulate a binary request: the bytes, and the only object able to open the response.

    Raises:
        Unsupported: `config` does not offer `aead`. Malformed: its public key is none.
    """
    header, enc, context = _setup(config, aead, ephemeral, chunked=False)
    ciphertext = context.seal(b"", request)
    return header.encode() + enc + ciphertext, ResponseOpener(context, enc)


def encapsulate_chunked(
    config: KeyConfig, request: bytes, *, aead: Aead, ephemeral: PrivateKey | None = None
) -> tuple[bytes, ChunkedResponseOpener]:
    """Encapsulate a binary request for `message/ohttp-chunked-req`, in chunks as large as allowed.

    Raises:
        Unsupported, Malformed: as `encapsulate`.
    """
    return encapsulate_pieces(config, (), request, aead=aead, ephemeral=ephemeral)


def encapsulate_pieces(
    config: KeyConfig,
    pieces: Sequence[bytes],
    last: bytes,
    *,
    aead: Aead,
    ephemeral: PrivateKey | None = None,
) -> tuple[bytes, ChunkedResponseOpener]:
    """Encapsulate a request cut where the caller says: a chunk each, and `last` as the final one.

    Raises:
        Unsupported, Malformed: as `encapsulate`.
    """
    return PreparedRequest(config, aead=aead, ephemeral=ephemeral).encapsulate(last, pieces=pieces)


class PreparedRequest:
    """An encapsulation to one key, made before there is a request; good for one only.

    Raises:
        Unsupported, Malformed: (on construction) as `encapsulate`.
    """

    def __init__(
        self, config: KeyConfig, *, aead: Aead, ephemeral: PrivateKey | None = None
    ) -> None:
        self._header, self._enc, self._context = _setup(config, aead, ephemeral, chunked=True)
        self._used = False

    def encapsulate(
        self, request: bytes, *, pieces: Sequence[bytes] = ()
    ) -> tuple[bytes, ChunkedResponseOpener]:
        """Seal `pieces`, a chunk each, and `request` behind them; ValueError the second time."""
        if self._used:
            raise ValueError("an encapsulation is for one request")
        self._used = True
        sealer = ChunkSealer(self._context.seal)
        sealed = b"".join([sealer.chunk(piece) for piece in pieces]) + sealer.final(request)
        opener = ChunkedResponseOpener(self._context, self._enc)
        return self._header.encode() + self._enc + sealed, opener


# Gateway half.


def open_request(context: RecipientContext, rest: bytes) -> bytes:
    """Open a request that was not chunked. `rest` is what `split` left behind `enc`.

    Raises:
        OpenFailed: not authentic, cut off, or made for the chunked type.
    """
    return context.open(b"", rest)


class ChunkedRequestOpener:
    """Opens a chunked request as it arrives.

    Nothing may be acted on before `finish` has returned: until then the request may be cut off.
    """

    def __init__(self, context: RecipientContext) -> None:
        self._chunks = ChunkOpener(context.open)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes behind `enc`; return the plaintext of each chunk they complete.

        Raises:
            Malformed, OpenFailed: as `wire.chunks.ChunkOpener.feed`.
        """
        return self._chunks.feed(data)

    def finish(self) -> bytes:
        """Say that the request has ended; return the plaintext of the final chunk, maybe empty.

        Raises:
            Truncated: there was no final chunk. OpenFailed: it is not authentic.
        """
        return self._chunks.finish()


def open_chunked_request(context: RecipientContext, rest: bytes) -> bytes:
    """Open a whole chunked request. `rest` is what `split` left behind `enc`.

    Raises:
        Truncated, Malformed, OpenFailed: as `ChunkedRequestOpener`.
    """
    opener = ChunkedRequestOpener(context)
    return b"".join(opener.feed(rest)) + opener.finish()


def first_ciphertext(rest: bytes, *, chunked: bool) -> tuple[bytes, bytes]:
    """Return what a context would open first: additional data and ciphertext, with its tag.

    `rest` is what `split` left behind `enc` of a whole request.

    Raises:
        Truncated, Malformed, OpenFailed: as `open_chunked_request`, where no key is needed to see.
    """
    return chunks.first_chunk(rest) if chunked else (b"", rest)


def _response_key_for(
    context: RecipientContext, enc: bytes, response_nonce: bytes, label: bytes
) -> _ResponseKey:
    if len(response_nonce) != response_nonce_length(context.suite):
        raise ValueError("the response nonce is not of the suite's length")
    return _ResponseKey(context, enc, response_nonce, label)


class ResponseSealer:
    """Seals the one response to a request. `response_nonce` is random and never used twice."""

    def __init__(self, context: RecipientContext, enc: bytes, response_nonce: bytes) -> None:
        self._nonce = response_nonce
        self._key = _response_key_for(context, enc, response_nonce, _RESPONSE_LABEL)
        self._used = False

    def seal(self, response: bytes) -> bytes:
        """Seal the whole response; ValueError the second time."""
        if self._used:
            raise ValueError("a response is sealed once")
        self._used = True
        return self._nonce + self._key.seal(b"", response)


class ChunkedResponseSealer:
    """Seals the one chunked response to a request: `start`, any number of `chunk`, `final`.

    `response_nonce` is random and never used twice.
    """

    def __init__(self, context: RecipientContext, enc: bytes, response_nonce: bytes) -> None:
        self._nonce = response_nonce
        key = _response_key_for(context, enc, response_nonce, _CHUNKED_RESPONSE_LABEL)
        self._chunks = ChunkSealer(key.seal)

    def start(self) -> bytes:
        """Return what a response begins with: its nonce."""
        return self._nonce

    def chunk(self, plaintext: bytes) -> bytes:
        """Seal `plaintext`, in several chunks if it is longer than `MAX_CHUNK`; none for none."""
        return self._chunks.chunk(plaintext)

    def final(self, plaintext: bytes = b"") -> bytes:
        """Seal the end of the response; ValueError for anything sealed after it."""
        return self._chunks.final(plaintext)
