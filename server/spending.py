"""The front's question to the spent-token store, over its unix socket.

The store learns rows (hashes of tokens), a key id and when: not who, not for what.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Protocol

from server.messages import Spend, Spending
from wire import http1
from wire.errors import WireError

ATTEMPTS = 2
"""A second try with the same spend id is harmless, and tells whether the first one counted."""

_ANSWERS = {200: Spending.OK, 409: Spending.SPENT}

_READ_SIZE = 64 * 1024

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Store(Protocol):
    """Where tokens are spent."""

    async def spend(self, spend: Spend) -> Spending:
        """Spend all rows or none; never raises."""


class SpentStore:
    """The operator's spent-token store, on connections that are kept.

    A request waits for this answer before anything is computed, so the way is short: one write, one
    read, no client library in between.
    """

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._idle: list[_Connection] = []

    async def spend(self, spend: Spend) -> Spending:
        """Spend all rows or none. An answer that does not come, or makes no sense, is UNAVAILABLE.

        Then the rows may be spent all the same, if it was the answer that got lost.
        """
        request = _request(spend)
        for _ in range(ATTEMPTS):
            try:
                async with asyncio.timeout(self._timeout_s):
                    status = await self._ask(request)
            except (OSError, TimeoutError, WireError):
                continue
            if status in _ANSWERS:
                return _ANSWERS[status]
        return Spending.UNAVAILABLE

    async def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop()[1].close()

    async def _ask(self, request: bytes) -> int:
        connection = await self._connect()
        try:
            status, reusable = await _exchange(connection, request)
        except BaseException:
            connection[1].close()
            raise
        if reusable:
            self._idle.append(connection)
        else:
            connection[1].close()
        return status

    async def _connect(self) -> _Connection:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()  # the store ends connections that were idle for long
        return await asyncio.open_unix_connection(self._path)


def _request(spend: Spend) -> bytes:
    body = json.dumps(
        {
            "spend_id": spend.spend_id.hex(),
            "key_id": spend.key_id.hex(),
            "rows": [row.hex() for row in spend.rows],
        }
    ).encode()
    fields = (
        (b"host", b"spent-store"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    )
    return http1.encode_request_head(b"POST", b"/spend", fields) + body


async def _exchange(connection: _Connection, request: bytes) -> tuple[int, bool]:
    """Return the status of the answer, and whether the connection can carry another request."""
    reader, writer = connection
    writer.write(request)
    response = http1.ResponseReader()
    while not response.complete:
        data = await reader.read(_READ_SIZE)
        if data:
            response.feed(data)
        else:
            response.end()
    return (response.head.status if response.head else 0), response.reusable
