"""The relay's one way out: plain HTTP requests with exactly the fields given, tried once.

A client library would add a user agent, keep cookies, follow redirects, look for proxies in the
environment and log each URL.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from relay.errors import BrokenOff, TimedOut, Unreachable
from relay.http1 import WorkerConnection
from wire.errors import Malformed
from wire.http1_client import IdleConnections, Origin

_CONNECT_TIMEOUT_S = 5.0  # a worker is near; whoever takes longer to accept is not serving
_WRITE_TIMEOUT_S = 30.0  # a worker reads as fast as the network, or is stuck


@dataclass(frozen=True)
class Document:
    """A small response, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Response:
    """A response whose head was read. Its content is read once, in one of two ways."""

    def __init__(
        self, connection: WorkerConnection, status: int, headers: Mapping[str, str]
    ) -> None:
        self.status = status
        self.headers = headers
        """Names in lower case; of a repeated one, the first."""
        self._connection = connection

    def take(self) -> bytes:
        """Return the content that has come so far."""
        return self._connection.take()

    async def deliver(self, sink: Callable[[bytes], None]) -> None:
        """Give `sink` each piece of the content in the moment it comes, until the last.

        Raises:
            BrokenOff: the response ended early, stalled, or is none.
        """
        if content := self._connection.take():
            sink(content)
        self._connection.sink = sink
        await self._until(lambda: self._connection.complete)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the content as it comes, read no faster than it is asked for; raises likewise."""
        while not self._connection.complete:
            await self._until(lambda: self._connection.waiting or self._connection.complete)
            yield self._connection.take()
        yield self._connection.take()

    def pause(self) -> None:
        """Read no more for now."""
        self._connection.pause()

    def resume(self) -> None:
        """Read again."""
        self._connection.resume()

    async def _until(self, ready: Callable[[], object]) -> None:
        await self._connection.until(ready)
        if not ready():
            raise BrokenOff


class Upstream:
    """Connections to workers and log. Use as an async context manager."""

    def __init__(self, authorities: Path | None = None) -> None:
        self._context = ssl.create_default_context(cafile=authorities)
        self._idle: IdleConnections

    async def __aenter__(self) -> Self:
        self._idle = IdleConnections(asyncio.get_running_loop().time)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._idle.close()

    @asynccontextmanager
    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes],
        *,
        timeout_s: float,
    ) -> AsyncIterator[Response]:
        """Send a request as its body arrives; the response, whose content is not yet read.

        Leaving the context closes the connection unless the response was read to its end. What
        `body` raises passes through and breaks the request off.

        Raises:
            Unreachable, TimedOut: there is no response, see there.
        """
        async with self._connected(url) as connection:
            _begin(connection, "POST", url, {**headers, "transfer-encoding": "chunked"})
            await _send(connection, body)
            yield await _response(connection, timeout_s)

    async def get(self, url: str, *, limit: int, timeout_s: float) -> Document:
        """Fetch a document of at most `limit` bytes.

        Raises:
            Unreachable, TimedOut: no whole document in time, or a longer one.
        """
        async with self._connected(url) as connection:
            _begin(connection, "GET", url, {})
            connection.end()
            response = await _response(connection, timeout_s)
            body = bytearray()
            try:
                async for piece in response.pieces():
                    body += piece
                    if len(body) > limit:
                        raise Unreachable
            except BrokenOff:
                raise Unreachable from None
            return Document(response.status, response.headers, bytes(body))

    @asynccontextmanager
    async def _connected(self, url: str) -> AsyncIterator[WorkerConnection]:
        connection = await self._connect(_origin(url))
        try:
            yield connection
        finally:
            connection.unbound_silence()
            self._idle.keep(connection)

    async def _connect(self, origin: Origin) -> WorkerConnection:
        idle = self._idle.find(origin)
        if isinstance(idle, WorkerConnection):
            return idle
        try:
            return await WorkerConnection.open(origin, self._context, timeout_s=_CONNECT_TIMEOUT_S)
        except OSError:  # TimeoutError is one
            raise Unreachable from None


def _origin(url: str) -> Origin:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Origin(parts.scheme, parts.hostname or "", port)


def _begin(connection: WorkerConnection, method: str, url: str, headers: Mapping[str, str]) -> None:
    parts = urlsplit(url)
    fields = [(b"host", parts.netloc.encode())]
    fields += [(name.encode(), value.encode()) for name, value in headers.items()]
    try:
        connection.begin(method.encode(), (parts.path or "/").encode(), fields)
    except Malformed:
        raise Unreachable from None


async def _send(connection: WorkerConnection, body: AsyncIterator[bytes]) -> None:
    async for piece in body:
        connection.send(piece)
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await connection.until(lambda: connection.writable)
        except TimeoutError:
            raise TimedOut from None
    connection.end()


async def _response(connection: WorkerConnection, timeout_s: float) -> Response:
    connection.bound_silence(timeout_s)
    await connection.until(lambda: connection.head)
    if connection.head is None:
        raise TimedOut if isinstance(connection.error, TimeoutError) else Unreachable
    headers: dict[str, str] = {}
    for name, value in connection.head.fields:
        headers.setdefault(name.decode(), value.decode("latin-1"))
    return Response(connection, connection.head.status, headers)
