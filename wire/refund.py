"""The blind refund: tokens that a request did not use come back, and nobody learns whose.

    client -> worker    a field of the inner request, as many blinded messages as tokens:
                        sottovoce-blinded: base64url( truncated_key_id u8, blinded[256] * n )
    worker -> client    a trailer of the inner response, n signatures in the same order, zeros for
                        those that were not refunded:
                        sottovoce-blind-signatures: base64url( signature[256] * n )
    worker -> issuer    a batch of many requests' items, shuffled:
                        ( ticket[32], TokenRequest[259] ) * 1..64
    issuer -> worker    signature[256] * as many, zeros for those that were refused

A ticket is made of what only the spender of a token knows, and the spent-token store knows its
hash. It proves that a token was spent and not yet given back; it says neither which nor by whom.
Each ticket is bound to the first blinded message it came with, so one spent token makes one token
at most, and asking again gives the same answer. Our extension of RFC 9577 and 9578.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from wire.auth_params import decode_base64url, encode_base64url
from wire.errors import Malformed
from wire.token_structures import SIGNATURE_LENGTH, TOKEN_REQUEST_LENGTH, TokenRequest

BLINDED_FIELD = b"sottovoce-blinded"
SIGNATURES_FIELD = b"sottovoce-blind-signatures"

BATCH_TYPE = "application/sottovoce-refund-request"
BATCH_RESPONSE_TYPE = "application/sottovoce-refund-response"
EXCHANGE_TYPE = "application/sottovoce-token-exchange"
"""Media type of a token of an old key (354 bytes) followed by a TokenRequest (259)."""

MAX_BATCH = 64
"""Items of one batch: a private operation each, so about 60 ms of one core at the issuer."""

TICKET_LENGTH = 32
ITEM_LENGTH = TICKET_LENGTH + TOKEN_REQUEST_LENGTH

REFUSED = bytes(SIGNATURE_LENGTH)
"""In the place of a signature: there is none. Zero is no RSA signature of anything padded."""

_TICKET_LABEL = b"sottovoce refund v1"


@dataclass(frozen=True)
class BlindedMessages:
    """The blinded messages of one request, all for one issuer key, 256 bytes each."""

    truncated_key_id: int
    messages: tuple[bytes, ...] = field(repr=False)

    def encode(self) -> bytes:
        """Write the value of the request's field."""
        return encode_base64url(bytes([self.truncated_key_id]) + b"".join(self.messages))

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read the field's value.

        Raises:
            Malformed: not base64url, not whole messages, none, or one that stands there twice.
        """
        data = decode_base64url(value)
        messages = _cut(data[1:], SIGNATURE_LENGTH)
        if len(set(messages)) != len(messages):
            raise Malformed("a blinded message is given twice")
        return cls(data[0], messages)

    def requests(self) -> list[TokenRequest]:
        """Return one TokenRequest for each message."""
        return [TokenRequest(self.truncated_key_id, message) for message in self.messages]


def encode_signatures(signatures: Sequence[bytes]) -> bytes:
    """Write the value of the response's trailer."""
    return encode_base64url(b"".join(signatures))


def decode_signatures(value: bytes, count: int) -> tuple[bytes, ...]:
    """Read the trailer's value: `count` signatures, `REFUSED` among them.

    Raises:
        Malformed: not that many.
    """
    signatures = _cut(decode_base64url(value), SIGNATURE_LENGTH)
    if len(signatures) != count:
        raise Malformed("not as many signatures as blinded messages")
    return signatures


@dataclass(frozen=True)
class RefundItem:
    """One token to be given back: what entitles to it, and what is to be signed."""

    ticket: bytes = field(repr=False)
    request: TokenRequest = field(repr=False)

    @property
    def binding(self) -> bytes:
        """What ties the ticket to this blinded message and no other."""
        return binding(self.request)


def binding(request: TokenRequest) -> bytes:
    """Return the SHA-256 of a TokenRequest: the store is told no more of it."""
    return hashlib.sha256(request.encode()).digest()


def encode_batch(items: Iterable[RefundItem]) -> bytes:
    """Encode a batch for the issuer."""
    return b"".join(item.ticket + item.request.encode() for item in items)


def decode_batch(data: bytes) -> tuple[RefundItem, ...]:
    """Decode a batch.

    Raises:
        Malformed: not 1 to `MAX_BATCH` whole items. Unsupported: another token type.
    """
    cut = _cut(data, ITEM_LENGTH)
    if len(cut) > MAX_BATCH:
        raise Malformed("a batch is too long")
    return tuple(
        RefundItem(part[:TICKET_LENGTH], TokenRequest.decode(part[TICKET_LENGTH:])) for part in cut
    )


def decode_batch_response(data: bytes, count: int) -> tuple[bytes, ...]:
    """Decode the issuer's answer to a batch of `count`; raises Malformed."""
    signatures = _cut(data, SIGNATURE_LENGTH)
    if len(signatures) != count:
        raise Malformed("not as many signatures as items")
    return signatures


def tickets(spend_id: bytes, key_id: bytes, rows: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the ticket of each row that was spent together under a random `spend_id`.

    Nothing of one ticket can be found from another, or from the row, without the spend id.
    """
    whole = hashlib.sha256(_TICKET_LABEL + spend_id + key_id + b"".join(sorted(rows))).digest()
    return tuple(hashlib.sha256(whole + row).digest() for row in rows)


def ticket_hash(ticket: bytes) -> bytes:
    """Return what the spent-token store keeps of a ticket."""
    return hashlib.sha256(ticket).digest()


def _cut(data: bytes, length: int) -> tuple[bytes, ...]:
    if not data or len(data) % length:
        raise Malformed("not a whole number of parts")
    return tuple(data[start : start + length] for start in range(0, len(data), length))
