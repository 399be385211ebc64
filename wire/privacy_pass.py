"""Privacy Pass with publicly verifiable tokens: the client's issuance, redemption, HTTP fields.

RFC 9577 (challenge, token, authentication scheme) and RFC 9578, section 6 (issuance), token type
0x0002: Blind RSA, 2048 bits, RSABSSA-SHA384-PSS-Deterministic. The issuer answers a `TokenRequest`
with the 256 bytes of the blind signature.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from wire import auth_params, blind_rsa
from wire.auth_params import decode_base64url, encode_base64url
from wire.errors import Malformed, Unsupported
from wire.token_structures import (
    NONCE_LENGTH,
    SIGNATURE_LENGTH,
    SPKI_LENGTH,
    TOKEN_LENGTH,
    TOKEN_REQUEST_LENGTH,
    TOKEN_TYPE,
    Token,
    TokenChallenge,
    TokenRequest,
    key_id,
    load_spki,
    public_key_spki,
)

__all__ = [
    "BLIND_LENGTH",
    "ISSUER_DIRECTORY_PATH",
    "ISSUER_DIRECTORY_TYPE",
    "NONCE_LENGTH",
    "SALT_LENGTH",
    "SIGNATURE_LENGTH",
    "SPKI_LENGTH",
    "TOKEN_LENGTH",
    "TOKEN_REQUEST_LENGTH",
    "TOKEN_REQUEST_TYPE",
    "TOKEN_RESPONSE_TYPE",
    "TOKEN_TYPE",
    "OfferedChallenge",
    "PendingToken",
    "Token",
    "TokenChallenge",
    "TokenRequest",
    "begin_issuance",
    "format_authorization",
    "format_challenge",
    "key_id",
    "load_spki",
    "parse_authorization",
    "parse_challenges",
    "public_key_spki",
    "spent_row",
    "verify_token",
]

TOKEN_REQUEST_TYPE = "application/private-token-request"  # noqa: S105 - a media type
TOKEN_RESPONSE_TYPE = "application/private-token-response"  # noqa: S105 - a media type
ISSUER_DIRECTORY_TYPE = "application/private-token-issuer-directory"
ISSUER_DIRECTORY_PATH = "/.well-known/private-token-issuer-directory"

SALT_LENGTH = blind_rsa.SALT_LENGTH
"""Random bytes that `begin_issuance` wants as `salt`: 48."""

BLIND_LENGTH = 272
"""Random bytes that `begin_issuance` wants as `blind`: `blind_rsa.blind_length` of 2048 bits."""

_SCHEME = b"privatetoken"

# Issuance and redemption.


class PendingToken:
    """A token asked for and not yet issued: the only thing that can finish it, once."""

    def __init__(
        self, challenge_digest: bytes, spki: bytes, nonce: bytes, blinding: blind_rsa.Blinding
    ) -> None:
        # A token of zeros until the issuer has signed.
        self._unsigned = Token(nonce, challenge_digest, key_id(spki), bytes(SIGNATURE_LENGTH))
        self._spki = spki
        self._blinding: blind_rsa.Blinding | None = blinding

    def finish(self, token_response: bytes) -> Token:
        """Make the token of the issuer's answer.

        Raises:
            Malformed: the answer is not 256 bytes. BadSignature: it is not the issuer's signature.
            ValueError: the second call.
        """
        blinding, self._blinding = self._blinding, None
        if blinding is None:
            raise ValueError("a token is finished once")
        unsigned = self._unsigned
        signature = blind_rsa.finalize(
            load_spki(self._spki), unsigned.signed_part, token_response, blinding
        )
        return Token(unsigned.nonce, unsigned.challenge_digest, unsigned.key_id, signature)


def begin_issuance(
    challenge: TokenChallenge, spki: bytes, *, nonce: bytes, salt: bytes, blind: bytes
) -> tuple[TokenRequest, PendingToken]:
    """Begin one issuance (RFC 9578, section 6.1): the request, and what will make the token.

    Args:
        challenge: what the token will answer.
        spki: the issuer's key, already checked to be the one everybody has.
        nonce: 32 random bytes.
        salt: 48 random bytes.
        blind: `BLIND_LENGTH` random bytes (or r itself, as in the vectors, in 256).

    Raises:
        Truncated, Malformed, Unsupported: `spki` is not an issuer key.
        ValueError: a random input has the wrong length.
    """
    if len(nonce) != NONCE_LENGTH or len(salt) != SALT_LENGTH:
        raise ValueError("the nonce is 32 bytes long and the salt 48")
    message = struct.pack(">H", TOKEN_TYPE) + nonce + challenge.digest + key_id(spki)
    blinded, blinding = blind_rsa.blind(load_spki(spki), message, salt=salt, blind=blind)
    pending = PendingToken(challenge.digest, spki, nonce, blinding)
    return TokenRequest(key_id(spki)[-1], blinded), pending


def verify_token(token: Token, spki: bytes, challenge_digest: bytes) -> None:
    """Verify that `token` answers the challenge and is signed by the key.

    Raises:
        Unsupported: it names another key, or answers another challenge.
        BadSignature: the signature does not verify.
    """
    if token.key_id != key_id(spki):
        raise Unsupported("the token is of another key")
    if token.challenge_digest != challenge_digest:
        raise Unsupported("the token answers another challenge")
    blind_rsa.verify(load_spki(spki), token.signed_part, token.signature)


def spent_row(key_id: bytes, nonce: bytes) -> bytes:
    """Return the row by which the spent-token store knows a token: SHA-256(key id || nonce)."""
    return hashlib.sha256(key_id + nonce).digest()


# HTTP fields (RFC 9577, section 2).


@dataclass(frozen=True)
class OfferedChallenge:
    """One PrivateToken challenge of a `WWW-Authenticate` field. `max_age` in seconds."""

    challenge: TokenChallenge
    spki: bytes
    max_age: int | None = None


def format_authorization(token: Token) -> bytes:
    """Write the value of `Authorization` that redeems a token."""
    return b'PrivateToken token="' + encode_base64url(token.encode()) + b'"'


def parse_authorization(value: bytes) -> Token:
    """Read the token of an `Authorization` value. Unknown parameters are ignored.

    Raises:
        Truncated, Malformed: not one PrivateToken with one token. Unsupported: another type or
            another scheme.
    """
    credentials = auth_params.parse(value)
    if len(credentials) != 1:
        raise Malformed("an Authorization field holds one scheme")
    scheme, params = credentials[0]
    if scheme != _SCHEME:
        raise Unsupported("another authentication scheme")
    if b"token" not in params:
        raise Malformed("a PrivateToken without its token")
    return Token.decode(decode_base64url(params[b"token"]))


def format_challenge(challenge: TokenChallenge, spki: bytes) -> bytes:
    """Write the value of `WWW-Authenticate` that asks for a token."""
    encoded, key = encode_base64url(challenge.encode()), encode_base64url(spki)
    return b'PrivateToken challenge="%s", token-key="%s"' % (encoded, key)


def parse_challenges(value: bytes) -> tuple[OfferedChallenge, ...]:
    """Read the challenges of a `WWW-Authenticate` value that ask for this type of token.

    Other schemes, other token types and unknown parameters are passed over.

    Raises:
        Truncated, Malformed: the value, a challenge or a key is not of the format.
    """
    found = []
    for scheme, params in auth_params.parse(value):
        if scheme != _SCHEME:
            continue
        if not {b"challenge", b"token-key"} <= params.keys():
            raise Malformed("a PrivateToken challenge without challenge or key")
        try:
            challenge = TokenChallenge.decode(decode_base64url(params[b"challenge"]))
        except Unsupported:
            continue
        spki = decode_base64url(params[b"token-key"])
        found.append(OfferedChallenge(challenge, spki, _max_age(params.get(b"max-age"))))
    return tuple(found)


def _max_age(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not value.isdigit() or len(value) > 10:
        raise Malformed("max-age is a number of seconds")
    return int(value)
