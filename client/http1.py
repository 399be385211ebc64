"""An httpx transport for streams of many small chunks: `wire.http1_client` on asyncio's sockets.

httpx brings the interface. What its own transport does for each chunk (locks, cancel scopes and a
state machine) costs several times what the proxy does with one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx

from wire.errors import WireError
from wire.http1_client import Connection, IdleConnections, Origin


class RelayConnection(Connection):
    """A connection whose changes can be waited for."""

    def __init__(self, origin: Origin) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        super().__init__(origin, self._wake, self._loop.time)

    def change(self) -> asyncio.Future[None]:
        """Return what is done as soon as anything changes."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def bound_silence(self, limit_s: float) -> None:
        """End the connection with a TimeoutError when nothing comes for `limit_s` seconds."""
        left = limit_s - self.silence
        if left > 0:
            self._timer = self._loop.call_later(left, self.bound_silence, limit_s)
        else:
            self.fail(TimeoutError())

    def unbound_silence(self) -> None:
        """Let the connection be silent."""
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Http1Transport(httpx.AsyncBaseTransport):
    """HTTP/1.1, tried once, with exactly the fields of the request.

    A request has as long to be sent as its answer may then be silent.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._idle = IdleConnections(asyncio.get_running_loop().time)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its response, whose stream is not yet read.

        Raises:
            httpx.TransportError: as httpx's own transport does.
        """
        timeouts = request.extensions["timeout"]
        connection = await self._connect(_origin(request.url), timeouts["connect"])
        try:
            _send(connection, request)
            connection.bound_silence(timeouts["read"])
            while connection.head is None:
                _check(connection)
                await connection.change()
        except BaseException:
            self.release(connection)
            raise
        head = connection.head
        stream = _ResponseStream(self, connection)
        return httpx.Response(head.status, headers=list(head.fields), stream=stream)

    async def aclose(self) -> None:
        """Close the idle connections."""
        self._idle.close()

    def release(self, connection: RelayConnection) -> None:
        """Keep a connection whose response was read whole; close any other."""
        connection.unbound_silence()
        self._idle.keep(connection)

    async def _connect(self, origin: Origin, timeout_s: float) -> RelayConnection:
        idle = self._idle.find(origin)
        if isinstance(idle, RelayConnection):
            return idle
        connection: RelayConnection
        # Any: the connection has a protocol's methods, but `wire` cannot name asyncio's types.
        factory: Any = partial(RelayConnection, origin)
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    factory,
                    origin.host,
                    origin.port,
                    ssl=self._context if origin.scheme == "https" else None,
                )
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection in time") from None
        except OSError as error:
            raise httpx.ConnectError(type(error).__name__) from None
        return connection


class _ResponseStream(httpx.AsyncByteStream):
    """The content of one response. Closed early, it closes the connection."""

    def __init__(self, transport: Http1Transport, connection: RelayConnection) -> None:
        self._transport = transport
        self._connection: RelayConnection | None = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (connection := self._connection) is not None:
            if connection.waiting:
                yield connection.take()
            elif connection.complete:
                return
            else:
                _check(connection)
                await connection.change()

    async def aclose(self) -> None:
        if self._connection is not None:
            self._transport.release(self._connection)
            self._connection = None


def _check(connection: RelayConnection) -> None:
    error = connection.error
    if isinstance(error, TimeoutError):
        raise httpx.ReadTimeout("the response stalled")
    if isinstance(error, WireError):
        raise httpx.RemoteProtocolError(str(error))
    if error is not None:
        raise httpx.ReadError(type(error).__name__)


def _send(connection: RelayConnection, request: httpx.Request) -> None:
    """Send a request whose content is there."""
    fields = [(name.lower(), value) for name, value in request.headers.raw]
    try:
        connection.begin(request.method.encode(), request.url.raw_path, fields)
    except WireError as error:
        raise httpx.LocalProtocolError(str(error)) from None
    connection.send(request.content)
    connection.end()


def _origin(url: httpx.URL) -> Origin:
    return Origin(url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
