"""The issuer's questions to the spent-token store, over its unix socket.

The store decides how many signatures are due; the issuer only ever asks, and is told no more than
yes or no. What it asks with are hashes it made itself or was handed by a worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from issuer.errors import KeyRetired, Spent, StoreUnavailable
from issuer.spent_store import Refund

TIMEOUT_S = 2.0
"""A row is written in milliseconds; somebody waits for the answer."""


class SpentClient:
    """The operator's spent-token store, as the issuer may use it."""

    def __init__(self, socket_path: Path) -> None:
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket_path)),
            base_url="http://spent-store",
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    async def exchange(self, *, spend_id: bytes, key_id: bytes, row: bytes, binding: bytes) -> None:
        """Spend one token for the one signature that `binding` stands for.

        Raises:
            Spent: it was spent before, or exchanged for another. KeyRetired: its key is over.
            StoreUnavailable: the store did not answer; ask again with the same arguments.
        """
        response = await self._post(
            "/exchange",
            {
                "spend_id": spend_id.hex(),
                "key_id": key_id.hex(),
                "row": row.hex(),
                "binding": binding.hex(),
            },
        )
        if response.status_code == httpx.codes.CONFLICT:
            if response.json()["error"]["code"] == "key_retired":
                raise KeyRetired("the token's key is retired")
            raise Spent("the token was spent before")
        _require_ok(response)

    async def refund(self, refunds: Sequence[Refund]) -> list[bool]:
        """Return for which of the tickets its blinded message may be signed.

        Raises:
            StoreUnavailable: the store did not answer; ask again with the same arguments.
        """
        items = [{"ticket": r.ticket.hex(), "binding": r.binding.hex()} for r in refunds]
        response = await self._post("/refund", {"refunds": items})
        _require_ok(response)
        granted = response.json()["granted"]
        if len(granted) != len(refunds) or not all(isinstance(one, bool) for one in granted):
            raise StoreUnavailable("the spent-token store's answer makes no sense")
        return list(granted)

    async def retire(self, key_id: bytes) -> None:
        """Have the rows of a key dropped that is over; raises StoreUnavailable."""
        _require_ok(await self._post("/retire", {"key_id": key_id.hex()}))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _post(self, path: str, members: dict[str, Any]) -> httpx.Response:
        try:
            return await self._client.post(path, json=members)
        except httpx.HTTPError:
            # `from None`: nothing of what was asked belongs into a traceback.
            raise StoreUnavailable("the spent-token store did not answer") from None


def _require_ok(response: httpx.Response) -> None:
    if response.status_code != httpx.codes.OK:
        raise StoreUnavailable("the spent-token store did not do it")
