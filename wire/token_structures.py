"""The structures and keys of Privacy Pass tokens (RFC 9577, section 2; RFC 9578, section 6).

    TokenChallenge  type (16) issuer_name<1..2^16-1> redemption_context<0..32>
                    origin_info<0..2^16-1>
    TokenRequest    type (16) truncated_token_key_id (8) blinded_msg (2048)         259 bytes
    Token           type (16) nonce (256) challenge_digest (256) token_key_id (256)
                    authenticator (2048)                                           354 bytes

`wire.privacy_pass` issues and redeems them; it is where other packages import them from.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from wire.errors import Malformed, Truncated, Unsupported

TOKEN_TYPE = 0x0002

NONCE_LENGTH = 32
SIGNATURE_LENGTH = 256
SPKI_LENGTH = 342
TOKEN_LENGTH = 354
TOKEN_REQUEST_LENGTH = 259

_SPKI_PREFIX = bytes.fromhex(
    "30820152303d06092a864886f70d01010a3030a00d300b06096086480165030402"
    "02a11a301806092a864886f70d010108300b0609608648016503040202a2030201"
    "300382010f00"
)
"""id-RSASSA-PSS with SHA-384, MGF1 with SHA-384 and salt 48, before an RSAPublicKey of 2048 bits
with exponent 65537 (RFC 9578, section 6.5). `cryptography` writes plain rsaEncryption instead."""


def _check_length(data: bytes, length: int) -> None:
    if len(data) < length:
        raise Truncated("a Privacy Pass structure is cut off")
    if len(data) > length:
        raise Malformed("trailing bytes after a Privacy Pass structure")


def _check_type(data: bytes) -> None:
    if len(data) < 2:
        raise Truncated("a Privacy Pass structure is cut off")
    if int.from_bytes(data[:2], "big") != TOKEN_TYPE:
        raise Unsupported("a token type that is not accepted")


# Keys.


def public_key_spki(public_key: RSAPublicKey) -> bytes:
    """Encode an issuer's key as RFC 9578 wants it: 342 bytes, id-RSASSA-PSS.

    Raises:
        Unsupported: not 2048 bits with exponent 65537.
    """
    if public_key.key_size != 2048 or public_key.public_numbers().e != 65537:
        raise Unsupported("issuer keys have 2048 bits and exponent 65537")
    return _SPKI_PREFIX + public_key.public_bytes(Encoding.DER, PublicFormat.PKCS1)


def load_spki(spki: bytes) -> RSAPublicKey:
    """Decode what `public_key_spki` makes, and nothing else.

    Raises:
        Truncated, Malformed: not that encoding. Unsupported: another kind of key.
    """
    _check_length(spki, SPKI_LENGTH)
    if not spki.startswith(_SPKI_PREFIX):
        raise Unsupported("not an id-RSASSA-PSS key of the one accepted kind")
    try:
        key = load_der_public_key(spki[len(_SPKI_PREFIX) :])
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("not an RSA key") from None
    if not isinstance(key, RSAPublicKey) or public_key_spki(key) != spki:
        raise Malformed("not an RSA key in its one encoding")
    return key


def key_id(spki: bytes) -> bytes:
    """Return the token key id: SHA-256 of the encoded key."""
    return hashlib.sha256(spki).digest()


# Structures.


@dataclass(frozen=True)
class TokenChallenge:
    """What a token answers (RFC 9577, section 2.1). `origin_info`: names, comma-separated.

    Raises:
        Malformed: empty or non-ASCII issuer, non-ASCII origin, or a context not of 0 or 32 bytes.
    """

    issuer_name: str
    redemption_context: bytes = b""
    origin_info: str = ""

    def __post_init__(self) -> None:
        names = (self.issuer_name, self.origin_info)
        if not self.issuer_name or not all(name.isascii() for name in names):
            raise Malformed("a token challenge names its issuer, in ASCII")
        if max(map(len, names)) > 0xFFFF or len(self.redemption_context) not in (0, 32):
            raise Malformed("a token challenge has a part of the wrong length")

    def encode(self) -> bytes:
        """Encode the structure."""
        issuer, origin = self.issuer_name.encode(), self.origin_info.encode()
        return b"".join(
            (
                struct.pack(">HH", TOKEN_TYPE, len(issuer)) + issuer,
                struct.pack(">B", len(self.redemption_context)) + self.redemption_context,
                struct.pack(">H", len(origin)) + origin,
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode exactly one structure.

        Raises:
            Truncated, Malformed: not one. Unsupported: another token type.
        """
        _check_type(data)
        issuer, offset = _vector(data, 2, 2)
        context, offset = _vector(data, offset, 1)
        origin, offset = _vector(data, offset, 2)
        _check_length(data, offset)
        if not (issuer + origin).isascii():
            raise Malformed("a token challenge is not ASCII")
        return cls(issuer.decode(), context, origin.decode())

    @property
    def digest(self) -> bytes:
        """SHA-256 of the encoding: what a token carries of its challenge."""
        return hashlib.sha256(self.encode()).digest()


def _vector(data: bytes, offset: int, length_bytes: int) -> tuple[bytes, int]:
    start = offset + length_bytes
    end = start + int.from_bytes(data[offset:start], "big")
    if len(data) < start or len(data) < end:
        raise Truncated("a token challenge is cut off")
    return data[start:end], end


@dataclass(frozen=True)
class TokenRequest:
    """What a client sends the issuer (RFC 9578, section 6.1)."""

    truncated_key_id: int
    blinded: bytes

    def encode(self) -> bytes:
        """Encode in 259 bytes."""
        return struct.pack(">HB", TOKEN_TYPE, self.truncated_key_id) + self.blinded

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode exactly 259 bytes.

        Raises:
            Truncated, Malformed: another length. Unsupported: another token type.
        """
        _check_type(data)
        _check_length(data, TOKEN_REQUEST_LENGTH)
        return cls(data[2], data[3:])


@dataclass(frozen=True)
class Token:
    """A token, good for one redemption (RFC 9577, section 2.2). `repr` shows none of it."""

    nonce: bytes = field(repr=False)
    challenge_digest: bytes = field(repr=False)
    key_id: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def __post_init__(self) -> None:
        parts = (self.nonce, self.challenge_digest, self.key_id)
        if {len(part) for part in parts} != {32} or len(self.signature) != SIGNATURE_LENGTH:
            raise Malformed("a token has a part of the wrong length")

    @property
    def signed_part(self) -> bytes:
        """The message under the signature: everything else."""
        return (
            struct.pack(">H", TOKEN_TYPE) + self.nonce + self.challenge_digest + self.key_id
        )  # RFC 9577, section 2.2

    def encode(self) -> bytes:
        """Encode in 354 bytes."""
        return self.signed_part + self.signature

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode exactly 354 bytes.

        Raises:
            Truncated, Malformed: another length. Unsupported: another token type.
        """
        _check_type(data)
        _check_length(data, TOKEN_LENGTH)
        return cls(data[2:34], data[34:66], data[66:98], data[98:])
