"""The front's question to the spent-token store, over its unix socket.

The store learns rows (hashes of tokens), a key id and when: not who, not for what.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import httpx

from server.messages import Spend, Spending

ATTEMPTS = 2
"""A second try with the same spend id is harmless, and tells whether the first one counted."""


class Store(Protocol):
    """Where tokens are spent."""

    async def spend(self, spend: Spend) -> Spending:
        """Spend all rows or none; never raises."""


class SpentStore:
    """The operator's spent-token store."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(path)),
            base_url="http://spent-store",
            timeout=timeout_s,
            trust_env=False,
        )

    async def spend(self, spend: Spend) -> Spending:
        """Spend all rows or none. An answer that does not come, or makes no sense, is UNAVAILABLE.

        Then the rows may be spent all the same, if it was the answer that got lost.
        """
        body = {
            "spend_id": spend.spend_id.hex(),
            "key_id": spend.key_id.hex(),
            "rows": [row.hex() for row in spend.rows],
        }
        for _ in range(ATTEMPTS):
            try:
                response = await self._client.post("/spend", json=body)
            except httpx.HTTPError:
                continue
            if response.status_code == httpx.codes.OK:
                return Spending.OK
            if response.status_code == httpx.codes.CONFLICT:
                return Spending.SPENT
        return Spending.UNAVAILABLE

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
