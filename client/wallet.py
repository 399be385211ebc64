"""The wallet: a stock of blind-signed tokens, drawn ahead of need (RFC 9578, type 2).

Issuance and use must not be tied together by time. So the stock is refilled in batches of one fixed
size, at random moments, when a look at one of those moments finds it low; a request only ever takes
from the stock. A token that was shown to a node is never put back: two requests that show one token
would be known to be one person's.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from client.errors import IssuerError, WalletEmpty
from client.files import write_private
from transparency.leaf import IssuerKeyLeaf
from wire import privacy_pass
from wire.errors import WireError

BATCH = 16
"""Tokens of one refill. The issuer sees how many tokens an account draws; batches blur how many it
needs."""

LOW_WATER = 48
"""A look at the stock refills it below this many tokens."""

PAUSE_S = (0.2, 1.0)
"""Bounds of the random pause between two looks at the stock while it is low."""

IDLE_PAUSE_S = (5.0, 30.0)
"""Bounds of the random pause while there is nothing to draw."""


@dataclass(frozen=True)
class StoredToken:
    """A finished token and the key it was signed under."""

    token: privacy_pass.Token
    not_after: int


class Wallet:
    """Keeps the stock and draws from one issuer on one account.

    `issuer_keys` gives the issuer keys that the log vouches for now; tokens are asked for under
    those and no others, so an issuer cannot mark a user by a key of their own.
    """

    def __init__(
        self,
        *,
        issuer_url: str,
        account_key: str,
        issuer_keys: Callable[[], Awaitable[Sequence[IssuerKeyLeaf]]],
        http: httpx.AsyncClient,
        path: Path | None = None,
    ) -> None:
        self._token_request_url = issuer_url.rstrip("/") + "/token-request"
        self._authorization = f"Bearer {account_key}"
        self._issuer_keys = issuer_keys
        self._http = http
        self._path = path
        self._stock: list[StoredToken] = self._load()
        self._arrived = asyncio.Condition()
        self.last_error: IssuerError | None = None
        """Why the last refill failed, or None: for the person who asks why the wallet is empty."""

    def __len__(self) -> int:
        return len(self._stock)

    async def take(self, count: int, *, wait_s: float = 10.0) -> list[privacy_pass.Token]:
        """Remove `count` tokens from the stock, waiting at most `wait_s` seconds for a refill.

        Raises:
            WalletEmpty: the stock stayed too small.
        """
        try:
            async with asyncio.timeout(wait_s), self._arrived:
                await self._arrived.wait_for(lambda: self._drop_expired() >= count)
                taken = [self._stock.pop(0) for _ in range(count)]
        except TimeoutError:
            reason = f": {self.last_error}" if self.last_error else ""
            raise WalletEmpty(f"no token is left and none arrived in time{reason}") from None
        self._save()
        return [stored.token for stored in taken]

    async def keep_filled(self) -> None:
        """Refill the stock at random moments, for ever."""
        while True:
            low = self._drop_expired() < LOW_WATER
            if low:
                try:
                    await self.refill()
                    self.last_error = None
                except IssuerError as error:
                    self.last_error = error
            shortest, longest = PAUSE_S if low else IDLE_PAUSE_S
            pause = shortest + (longest - shortest) * secrets.SystemRandom().random()
            await asyncio.sleep(pause)

    async def refill(self) -> None:
        """Draw one batch.

        Raises:
            IssuerError: no logged key, the issuer refused, or a signature does not verify.
        """
        key = await self._current_key()
        challenge = privacy_pass.TokenChallenge.decode(key.challenge)
        for _ in range(BATCH):
            token = await self._draw(challenge, key)
            async with self._arrived:
                self._stock.append(StoredToken(token, key.not_after))
                self._arrived.notify_all()
        self._save()

    async def _current_key(self) -> IssuerKeyLeaf:
        now = time.time()
        current = [k for k in await self._issuer_keys() if k.not_before <= now < k.not_after]
        if not current:
            raise IssuerError("the log vouches for no issuer key at this time")
        return max(current, key=lambda key: key.not_before)

    async def _draw(
        self, challenge: privacy_pass.TokenChallenge, key: IssuerKeyLeaf
    ) -> privacy_pass.Token:
        # Blinding costs milliseconds of big-integer work; in a thread it does not stall the
        # streams.
        request, pending = await asyncio.to_thread(
            privacy_pass.begin_issuance,
            challenge,
            key.spki,
            nonce=secrets.token_bytes(32),
            salt=secrets.token_bytes(privacy_pass.SALT_LENGTH),
            blind=secrets.token_bytes(privacy_pass.BLIND_LENGTH),
        )
        signed = await self._ask(request.encode())
        try:
            return await asyncio.to_thread(pending.finish, signed)
        except WireError:
            raise IssuerError(
                "the issuer's signature does not verify under its logged key"
            ) from None

    async def _ask(self, token_request: bytes) -> bytes:
        headers = {
            "content-type": privacy_pass.TOKEN_REQUEST_TYPE,
            "authorization": self._authorization,
        }
        try:
            answer = await self._http.post(
                self._token_request_url, content=token_request, headers=headers
            )
        except httpx.HTTPError:
            raise IssuerError("the issuer cannot be reached") from None
        if answer.status_code != httpx.codes.OK:
            raise IssuerError(f"the issuer answered {answer.status_code}")
        return answer.content

    def _drop_expired(self) -> int:
        now = time.time()
        self._stock = [stored for stored in self._stock if now < stored.not_after]
        return len(self._stock)

    def _load(self) -> list[StoredToken]:
        if self._path is None or not self._path.exists():
            return []
        entries = json.loads(self._path.read_text())
        return [
            StoredToken(
                privacy_pass.Token.decode(base64.b64decode(entry["token"])), entry["not_after"]
            )
            for entry in entries
        ]

    def _save(self) -> None:
        if self._path is not None:
            entries = [
                {"token": base64.b64encode(s.token.encode()).decode(), "not_after": s.not_after}
                for s in self._stock
            ]
            write_private(self._path, json.dumps(entries).encode())
