"""Tokens for tokens: the exchange of an old key's, and the refund of unused ones.

    POST /token-exchange   a token and a TokenRequest (613 bytes) for a TokenResponse (256 bytes)
    POST /refund           1 to 64 tickets, each with a TokenRequest, for as many signatures

No account takes part: a request names none and is not asked for one. What is due is conserved by
the spent-token store, where one spent token is bound to at most one blinded message. So asking
again with the same bytes is answered the same, and with others refused.

What the issuer learns. From an exchange: that some token of an old key was left over, its nonce
(which nobody saw before, and which is worth nothing now), and an address. From a refund: that a
worker's requests left so many tokens in a tick. Both kinds of new token are blinded.

Refusals of an exchange, in the order in which they are found; none of them spends the token:

    405 another method          415 another media type      408 the body did not come
    422 not 613 bytes, another token type, an unknown key, a key that is not newer, out of range
    403 not a token of that key                             409 spent before, or its key is over
    500 a faulty signature (ask again)                      503 the store did not answer

An item of a batch that is refused gets zeros in its place; the others are not told.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from issuer.errors import (
    BlindedOutOfRange,
    BodyTooLarge,
    MalformedRequest,
    SigningFault,
    TokenRefused,
    UnknownKey,
    WrongMediaType,
)
from issuer.keys import IssuerKey, KeyRing
from issuer.service import read_body
from issuer.spent_client import SpentClient
from issuer.spent_store import Refund
from wire.errors import WireError
from wire.privacy_pass import (
    TOKEN_LENGTH,
    TOKEN_REQUEST_LENGTH,
    TOKEN_RESPONSE_TYPE,
    Token,
    TokenRequest,
    spent_row,
    verify_token,
)
from wire.refund import (
    BATCH_RESPONSE_TYPE,
    BATCH_TYPE,
    EXCHANGE_TYPE,
    ITEM_LENGTH,
    MAX_BATCH,
    REFUSED,
    RefundItem,
    binding,
    decode_batch,
)

EXCHANGE_PATH = "/token-exchange"
REFUND_PATH = "/refund"

_EXCHANGE_LENGTH = TOKEN_LENGTH + TOKEN_REQUEST_LENGTH
_SPEND_ID_LENGTH = 16


class Returning:
    """The two resources over one key ring and one spent-token store.

    `challenge_digest` is that of the fleet's one challenge; a token of another is not taken.
    """

    def __init__(
        self,
        keys: KeyRing,
        store: SpentClient,
        challenge_digest: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._store = store
        self._challenge_digest = challenge_digest
        self._clock = clock

    def routes(self) -> list[Route]:
        """Return the routes of both resources."""
        return [
            Route(EXCHANGE_PATH, self._serve_exchange, methods=["POST"]),
            Route(REFUND_PATH, self._serve_refund, methods=["POST"]),
        ]

    async def _serve_exchange(self, request: Request) -> Response:
        body = await _read(request, EXCHANGE_TYPE, _EXCHANGE_LENGTH)
        return _answer(await self.exchange(body), TOKEN_RESPONSE_TYPE)

    async def _serve_refund(self, request: Request) -> Response:
        body = await _read(request, BATCH_TYPE, MAX_BATCH * ITEM_LENGTH)
        return _answer(await self.refund(body), BATCH_RESPONSE_TYPE)

    async def exchange(self, body: bytes) -> bytes:
        """Return the blind signature for a token of an older key; raises as the module says."""
        token, request = _parse_exchange(body)
        now = self._clock()
        old = self._keys.exchangeable(token.key_id, now)
        new = self._keys.find(request.truncated_key_id, now)
        if new.period.not_before <= old.period.not_before:
            raise UnknownKey("tokens are exchanged for those of a newer key")
        new.require_in_range(request.blinded)
        try:
            verify_token(token, old.spki, self._challenge_digest)
        except WireError:
            raise TokenRefused("not a token of this issuer") from None
        await self._store.exchange(
            # Of all that is exchanged for what: the same again is the same spend, and only that.
            spend_id=hashlib.sha256(body).digest()[:_SPEND_ID_LENGTH],
            key_id=old.key_id,
            row=spent_row(token.key_id, token.nonce),
            binding=binding(request),
        )
        return await asyncio.to_thread(new.blind_sign, request.blinded)

    async def refund(self, body: bytes) -> bytes:
        """Return one signature, or zeros, for each item of a batch.

        Raises:
            MalformedRequest: not a batch. StoreUnavailable: ask again.
        """
        try:
            items = decode_batch(body)
        except WireError as error:
            raise MalformedRequest("not a batch of refunds") from error
        keys = [self._key_for(item.request) for item in items]
        due = [index for index, key in enumerate(keys) if key is not None]
        granted = await self._grant([items[index] for index in due])
        signatures = [REFUSED] * len(items)
        for index, grant in zip(due, granted, strict=True):
            if grant:
                signatures[index] = await _sign(keys[index], items[index])
        return b"".join(signatures)

    def _key_for(self, request: TokenRequest) -> IssuerKey | None:
        try:
            key = self._keys.find(request.truncated_key_id, self._clock())
            key.require_in_range(request.blinded)
        except (UnknownKey, BlindedOutOfRange):
            return None
        return key

    async def _grant(self, items: list[RefundItem]) -> list[bool]:
        if not items:
            return []
        return await self._store.refund([Refund(item.ticket, item.binding) for item in items])


async def _sign(key: IssuerKey | None, item: RefundItem) -> bytes:
    try:
        return (
            REFUSED
            if key is None
            else await asyncio.to_thread(key.blind_sign, item.request.blinded)
        )
    except SigningFault:
        return REFUSED  # the ticket stays bound to this message: asking again may help


def _parse_exchange(body: bytes) -> tuple[Token, TokenRequest]:
    try:
        return Token.decode(body[:TOKEN_LENGTH]), TokenRequest.decode(body[TOKEN_LENGTH:])
    except WireError as error:
        raise MalformedRequest("not a token and a token request of type 0x0002") from error


async def _read(request: Request, media_type: str, limit: int) -> bytes:
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != media_type:
        raise WrongMediaType(f"the content type must be {media_type}")
    try:
        return await read_body(request, limit)
    except BodyTooLarge as error:
        raise MalformedRequest("longer than any such request") from error


def _answer(content: bytes, media_type: str) -> Response:
    return Response(content, media_type=media_type, headers={"Cache-Control": "no-store"})
