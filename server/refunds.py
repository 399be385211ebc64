"""Giving spent tokens back: the front's batches for the issuer.

Every tick, what all requests of this worker have left goes to the issuer as one shuffled batch of
tickets and blinded messages (`wire.refund`). Nothing of a request is in it; the issuer cannot even
tell how many requests it is from. A request that is owed nothing but carried several tokens waits
for the tick all the same, so that the pause before its end tells nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import httpx

from server.messages import Refund, Spend
from wire.errors import Malformed
from wire.privacy_pass import TokenRequest
from wire.refund import (
    BATCH_TYPE,
    MAX_BATCH,
    REFUSED,
    RefundItem,
    decode_batch_response,
    encode_batch,
    tickets,
)

TICK_S = 0.25
"""Seconds between two batches, at multiples of it on the clock: long enough for several requests to
end in one, and half of it is what a request with several tokens waits before its final chunk."""

TIMEOUT_S = 2.0
"""For one of two tries; the client waits meanwhile, with the whole answer in its hands."""

ATTEMPTS = 2
"""The issuer answers the same bytes the same way, so asking again is harmless."""


class Refunder(Protocol):
    """Where spent tokens are given back."""

    async def refund(self, items: Sequence[RefundItem]) -> list[bytes]:
        """Return a signature, or `REFUSED`, for each item, at the next tick; never raises."""


def items_of(spend: Spend, refund: Refund) -> list[RefundItem]:
    """Return one item for each blinded message, with the ticket of one of the spent tokens."""
    due = tickets(spend.spend_id, spend.key_id, spend.rows)[: len(refund.messages)]
    return [
        RefundItem(ticket, TokenRequest(refund.truncated_key_id, message))
        for ticket, message in zip(due, refund.messages, strict=True)
    ]


class Refunds:
    """Batches for one issuer."""

    def __init__(self, issuer_url: str, clock: Callable[[], float] = time.time) -> None:
        self._url = issuer_url.rstrip("/") + "/refund"
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)
        self._clock = clock
        self._next: asyncio.Task[dict[RefundItem, bytes]] | None = None
        self._items: list[RefundItem] = []

    async def refund(self, items: Sequence[RefundItem]) -> list[bytes]:
        """Return a signature, or `REFUSED`, for each item, at the next tick; never raises."""
        self._items += items
        if self._next is None:
            self._next = asyncio.create_task(self._at_tick())
        # Shielded: a client that goes away must not take the others' batch with it.
        signatures = await asyncio.shield(self._next)
        return [signatures.get(item, REFUSED) for item in items]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _at_tick(self) -> dict[RefundItem, bytes]:
        await asyncio.sleep(TICK_S - self._clock() % TICK_S)
        items, self._items, self._next = self._items, [], None
        # So that the order tells nothing of which came together.
        secrets.SystemRandom().shuffle(items)
        parts = [items[start : start + MAX_BATCH] for start in range(0, len(items), MAX_BATCH)]
        signatures: dict[RefundItem, bytes] = {}
        for part in parts:
            signatures.update(zip(part, await self._ask(part), strict=True))
        return signatures

    async def _ask(self, items: Sequence[RefundItem]) -> Sequence[bytes]:
        body, headers = encode_batch(items), {"content-type": BATCH_TYPE}
        for _ in range(ATTEMPTS):
            try:
                response = await self._client.post(self._url, content=body, headers=headers)
                if response.status_code == httpx.codes.OK:
                    return decode_batch_response(response.content, len(items))
            except (httpx.HTTPError, Malformed):
                continue
        return [REFUSED] * len(items)
