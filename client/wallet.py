"""The wallet: a stock of blind-signed tokens, drawn ahead of need (RFC 9578, type 2).

Issuance and use must not be tied together by time. So the stock is refilled in batches of one fixed
size, at the random moments of `client.refill`; a request only ever takes from the stock. A token
that was shown to a node is never put back: two requests that show one token would be known to be
one person's.

Tokens come in three ways: drawn on the account; exchanged, one for one, for those of a key that is
about to retire (`wire.token_life`); and given back by a request that did not use them
(`wire.refund`). All three are blind, and verified under a key that the log vouches for. Tokens of
two keys are never shown together: the newest key with tokens enough is taken.

A token is off the file before it is shown, so that no crash makes it be shown twice. Writing the
file takes a millisecond that no request should wait for: tokens come off it some at a time, and a
crash loses those that were off and not yet shown.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from client.blinded import Blinded, BlindedStock, blind
from client.errors import ClientError, IssuerError, StateUnwritable, TokenWorthless, WalletEmpty
from client.issuance import Issuance, anonymous_client
from client.refill import RefillClock
from client.token_file import StoredToken, TokenFile
from transparency.leaf import IssuerKeyLeaf
from wire import privacy_pass
from wire.errors import WireError
from wire.refund import REFUSED
from wire.token_life import EXCHANGE_S

BATCH = 16
"""Tokens of one refill. The issuer sees how many tokens an account draws; batches blur how many it
needs."""

PAUSE_S = (0.2, 1.0)
"""Bounds of the random pause between two looks at the stock while it is being filled."""

IDLE_PAUSE_S = (1.0, 5.0)
"""Bounds of the random pause while there is nothing to draw. A look asks nobody, but for the
node list once an epoch."""

WAIT_S = 35.0
"""How long a request waits for tokens: the longest pause, and some failed drawing after it."""

EXCHANGE_AHEAD_S = 86_400
"""How long before its end a key's left tokens begin to be exchanged for those of a newer one."""

DRAWN_AHEAD = 16
"""Tokens taken off the file at once, ahead of the requests that will show them."""


class Wallet:
    """Keeps the stock and draws from one issuer on one account.

    `issuer_keys` gives the issuer keys that the log vouches for now; tokens are asked for under
    those and no others, so an issuer cannot mark a user by a key of their own. `anonymous` makes
    the client for one exchange: a connection that has never carried the account key.

    Raises:
        WalletDamaged: (on construction) the file at `path` cannot be read.
    """

    def __init__(
        self,
        *,
        issuer_url: str,
        account_key: str,
        issuer_keys: Callable[[], Awaitable[Sequence[IssuerKeyLeaf]]],
        http: httpx.AsyncClient,
        path: Path | None = None,
        anonymous: Callable[[], httpx.AsyncClient] = anonymous_client,
    ) -> None:
        self._issuance = Issuance(issuer_url, account_key, http, anonymous)
        self._issuer_keys = issuer_keys
        self._file = TokenFile(path)
        self._stock = self._file.load()
        self._drawn: list[StoredToken] = []  # off the file, of one key, not yet shown
        self._exchanging: tuple[StoredToken, Blinded] | None = None
        self._blinded = BlindedStock()
        self._refills = RefillClock()
        self._arrived = asyncio.Condition()
        self.given_back = 0
        """Tokens that requests did not use and that came back."""
        self.last_error: ClientError | None = None
        """Why the last refill failed, or None: for the person who asks why the wallet is empty."""

    def __len__(self) -> int:
        return len(self._usable())

    async def take(self, count: int, *, wait_s: float = WAIT_S) -> list[privacy_pass.Token]:
        """Remove `count` tokens of one key, waiting at most `wait_s` seconds for a refill.

        Raises:
            WalletEmpty: the stock stayed too small.
            StateUnwritable: tokens cannot be taken off the file, and so may not be shown.
        """
        if (drawn := self._take_drawn(count)) is not None:
            return drawn
        try:
            async with asyncio.timeout(wait_s), self._arrived:
                await self._arrived.wait_for(lambda: self._key_with(count) is not None)
                return self._remove(self._key_with(count), count)
        except TimeoutError:
            reason = f": {self.last_error}" if self.last_error else ""
            raise WalletEmpty(f"no token is left and none arrived in time{reason}") from None

    async def take_more(
        self, shown: Sequence[privacy_pass.Token], count: int
    ) -> list[privacy_pass.Token]:
        """Return `count` tokens of one key for a request that has already shown some.

        Those that it showed and as many more of the same key; or, if the stock has not that many,
        others altogether.

        Raises:
            WalletEmpty: the stock stayed too small.
            StateUnwritable: as `take`.
        """
        missing = count - len(shown)
        if shown and sum(s.token.key_id == shown[0].key_id for s in self._usable()) >= missing:
            return [*shown, *self._remove(shown[0].key_id, missing)]
        return await self.take(count)

    async def blind(self, count: int) -> list[Blinded]:
        """Return blinded messages for a request with `count` tokens, for the newest key.

        Raises:
            IssuerError: the log vouches for no key.
        """
        return await self._blinded.take(await self._current_key(), count)

    async def take_back(self, blinded: Sequence[Blinded], signatures: Sequence[bytes]) -> None:
        """Put the tokens into the stock that a request did not use.

        A signature that does not verify under the logged key makes no token and is forgotten. What
        cannot be written now is written with what comes next: the answer is none the worse.
        """
        given_back = self.given_back
        for one, signature in zip(blinded, signatures, strict=True):
            if signature == REFUSED:
                continue
            try:
                token = await asyncio.to_thread(one.pending.finish, signature)
            except WireError:
                self.last_error = IssuerError("a refund does not verify under its logged key")
                continue
            self.given_back += 1
            await self._add(StoredToken(token, one.key.not_after))
        if self.given_back > given_back:
            try:
                self._save()
            except StateUnwritable as error:
                self.last_error = error

    def close(self) -> None:
        """Put what was not shown back on the file, if it can be written. The wallet ends here."""
        self._put_back()
        with suppress(StateUnwritable):
            self._save()

    async def keep_filled(self) -> None:
        """Look at the stock at random moments, and do what is due, for ever."""
        while True:
            try:
                busy = await self._look()
                self.last_error = None
            except ClientError as error:  # whatever it is, it must not end the refills
                self.last_error, busy = error, True
            shortest, longest = PAUSE_S if busy else IDLE_PAUSE_S
            pause = shortest + (longest - shortest) * secrets.SystemRandom().random()
            await asyncio.sleep(pause)

    async def _look(self) -> bool:
        """Do what is due; return whether there may be more soon."""
        self._drop_worthless()
        self._draw_ahead()
        if drawing := self._refills.due(len(self)):
            await self.refill()
        await self._blinded.fill(await self._current_key())
        return await self.exchange() or drawing

    async def refill(self) -> None:
        """Draw one batch.

        Raises:
            IssuerError: no logged key, the issuer refused, or a signature does not verify.
            StateUnwritable: it is in the stock, and on the file once that can be written.
        """
        key = await self._current_key()
        for _ in range(BATCH):
            # Blinding costs milliseconds of big-integer work; in a thread it does not stall the
            # streams.
            blinded = await asyncio.to_thread(blind, key)
            await self._finish(blinded, await self._issuance.draw(blinded.request.encode()))
        self._save()

    async def exchange(self) -> bool:
        """Exchange one token of a key that is about to retire, or has; return whether there was.

        Raises:
            IssuerError: the token is kept to ask again, unless the issuer says it is worth nothing.
        """
        key = await self._current_key()
        if self._exchanging is None:
            if (stored := self._closing(key)) is None:
                return False
            self._stock.remove(stored)
            self._exchanging = (stored, await asyncio.to_thread(blind, key))
        # The same bytes however often it takes: to those the issuer gives the same answer.
        stored, blinded = self._exchanging
        try:
            signed = await self._issuance.swap(stored.token.encode() + blinded.request.encode())
        except TokenWorthless:
            self._exchanging = None
            self._save()
            raise
        self._exchanging = None
        await self._finish(blinded, signed)
        self._save()
        return True

    async def _finish(self, blinded: Blinded, signed: bytes) -> None:
        try:
            token = await asyncio.to_thread(blinded.pending.finish, signed)
        except WireError:
            raise IssuerError(
                "the issuer's signature does not verify under its logged key"
            ) from None
        await self._add(StoredToken(token, blinded.key.not_after))

    async def _add(self, stored: StoredToken) -> None:
        async with self._arrived:
            if self._drawn and stored.token.key_id != self._drawn[0].token.key_id:
                self._put_back()  # maybe of a newer key, which is then taken first
            self._stock.append(stored)
            self._arrived.notify_all()

    async def _current_key(self) -> IssuerKeyLeaf:
        now = time.time()
        current = [k for k in await self._issuer_keys() if k.not_before <= now < k.not_after]
        if not current:
            raise IssuerError("the log vouches for no issuer key at this time")
        return max(current, key=lambda key: key.not_before)

    def _usable(self) -> list[StoredToken]:
        now = time.time()
        return [stored for stored in (*self._drawn, *self._stock) if now < stored.not_after]

    def _key_with(self, count: int) -> bytes | None:
        """Return the id of the newest key with `count` usable tokens."""
        ends: dict[bytes, int] = {}
        held: dict[bytes, int] = {}
        for stored in self._usable():
            ends[stored.token.key_id] = stored.not_after
            held[stored.token.key_id] = held.get(stored.token.key_id, 0) + 1
        enough = [key_id for key_id, number in held.items() if number >= count]
        return max(enough, key=lambda key_id: ends[key_id], default=None)

    def _take_drawn(self, count: int) -> list[privacy_pass.Token] | None:
        """Return tokens that are off the file already; None if they are too few."""
        now = time.time()
        if len(self._drawn) < count or any(now >= stored.not_after for stored in self._drawn):
            return None
        taken, self._drawn = self._drawn[:count], self._drawn[count:]
        return [stored.token for stored in taken]

    def _remove(self, key_id: bytes | None, count: int) -> list[privacy_pass.Token]:
        """Take `count` tokens of a key that has as many, and some more off the file."""
        self._put_back()
        now, before = time.time(), self._stock
        fitting = [s for s in before if s.token.key_id == key_id and now < s.not_after]
        off = {id(stored) for stored in fitting[: count + DRAWN_AHEAD]}
        self._drawn = fitting[count : count + DRAWN_AHEAD]
        self._stock = [stored for stored in before if id(stored) not in off]
        try:
            self._save()
        except StateUnwritable:
            self._stock, self._drawn = before, []
            raise
        return [stored.token for stored in fitting[:count]]

    def _draw_ahead(self) -> None:
        """Take tokens off the file while no request waits for it."""
        if len(self._drawn) < DRAWN_AHEAD // 2 and (key_id := self._key_with(1)) is not None:
            self._remove(key_id, 0)

    def _put_back(self) -> None:
        self._stock, self._drawn = [*self._drawn, *self._stock], []

    def _closing(self, newest: IssuerKeyLeaf) -> StoredToken | None:
        """Return a token to be exchanged for one of `newest`, or None."""
        soon, key_id = time.time() + EXCHANGE_AHEAD_S, privacy_pass.key_id(newest.spki)
        for stored in self._stock:
            if stored.not_after < soon and stored.token.key_id != key_id:
                return stored
        return None

    def _drop_worthless(self) -> None:
        now = time.time()
        self._stock = [stored for stored in self._stock if now < stored.not_after + EXCHANGE_S]

    def _save(self) -> None:
        under_way = [] if self._exchanging is None else [self._exchanging[0]]
        self._file.save((*self._stock, *under_way))
