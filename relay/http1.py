"""An httpx transport for streams of many small chunks: one connection, one request, asyncio.

httpx brings the interface, `wire.http1` the reading. What httpx's own transport does between the
two (locks, cancel scopes and a state machine for each read) costs several times what the relay does
with a chunk.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import monotonic

import httpx

from wire import http1
from wire.errors import Malformed, Truncated

_READ_SIZE = 64 * 1024
_READ_AHEAD = 32 * 1024  # asyncio stops reading at twice this

_MAX_IDLE = 64
_IDLE_S = 2.0
"""Below the 5 s after which common servers (uvicorn among them) close an idle connection: a request
must not be lost in a connection that is just being closed, as it is not retried."""


@dataclass(frozen=True)
class _Origin:
    scheme: str
    host: str
    port: int


@dataclass
class _Connection:
    """One connection, and the one response that is being read from it."""

    origin: _Origin
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    response: http1.ResponseReader = field(default_factory=http1.ResponseReader)
    idle_since: float = 0.0

    @property
    def usable(self) -> bool:
        """Whether another request may be sent: the server has said nothing, not even its end."""
        fresh = monotonic() - self.idle_since < _IDLE_S
        return fresh and not self.reader.at_eof() and not self.writer.is_closing()

    async def read(self) -> bytes:
        """Read once; return the content that came, which may be none."""
        try:
            data = await self.reader.read(_READ_SIZE)
            if data:
                return self.response.feed(data)
            self.response.end()
        except TimeoutError:
            raise httpx.ReadTimeout("the response stalled") from None
        except (Malformed, Truncated) as error:
            raise httpx.RemoteProtocolError(str(error)) from None
        except OSError as error:
            raise httpx.ReadError(type(error).__name__) from None
        return b""


class Http1Transport(httpx.AsyncBaseTransport):
    """HTTP/1.1, tried once, with exactly the fields of the request."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._idle: list[_Connection] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its response, whose stream is not yet read.

        Raises:
            httpx.TransportError: as httpx's own transport does.
        """
        timeouts = request.extensions.get("timeout", {})
        connection = await self._connect(_origin(request.url), timeouts.get("connect"))
        silence = _Silence(connection.reader, timeouts.get("read"))
        content = b""
        try:
            await _send(connection.writer, request, timeouts.get("write"))
            silence.begin()
            while connection.response.head is None:
                content = await connection.read()
                silence.broken()
        except BaseException:
            silence.end()
            connection.writer.close()
            raise
        head = connection.response.head
        stream = _ResponseStream(self, connection, silence, content)
        return httpx.Response(head.status, headers=list(head.fields), stream=stream)

    async def aclose(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().writer.close()

    def release(self, connection: _Connection) -> None:
        """Keep a connection whose response was read whole; close any other."""
        if not connection.response.reusable or len(self._idle) >= _MAX_IDLE:
            connection.writer.close()
            return
        connection.response = http1.ResponseReader()
        connection.idle_since = monotonic()
        self._idle.append(connection)

    async def _connect(self, origin: _Origin, timeout_s: float | None) -> _Connection:
        for connection in reversed(self._idle):
            if connection.origin == origin:
                self._idle.remove(connection)
                if connection.usable:
                    return connection
                connection.writer.close()
        context = self._context if origin.scheme == "https" else None
        try:
            async with asyncio.timeout(timeout_s):
                streams = await asyncio.open_connection(
                    origin.host, origin.port, ssl=context, limit=_READ_AHEAD
                )
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection in time") from None
        except OSError as error:
            raise httpx.ConnectError(type(error).__name__) from None
        return _Connection(origin, *streams)


class _ResponseStream(httpx.AsyncByteStream):
    """The content of one response. Closed early, it closes the connection."""

    def __init__(
        self,
        transport: Http1Transport,
        connection: _Connection,
        silence: _Silence,
        content: bytes,
    ) -> None:
        self._transport = transport
        self._connection: _Connection | None = connection
        self._silence = silence
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content, connection, silence = self._content, self._connection, self._silence
        if connection is None:
            return
        if content:
            yield content
        while not connection.response.complete:
            content = await connection.read()
            silence.broken()
            if content:
                yield content

    async def aclose(self) -> None:
        if self._connection is not None:
            self._silence.end()
            self._transport.release(self._connection)
            self._connection = None


class _Silence:
    """Ends a read when nothing was read for too long: one timer, not one a read."""

    def __init__(self, reader: asyncio.StreamReader, limit_s: float | None) -> None:
        self._reader = reader
        self._limit_s = limit_s
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._since = monotonic()
        self._wait(self._limit_s)

    def broken(self) -> None:
        self._since = monotonic()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, seconds: float | None) -> None:
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        if self._limit_s is None:
            return
        left = self._limit_s - (monotonic() - self._since)
        if left > 0:
            self._wait(left)
        else:
            self._reader.set_exception(TimeoutError())


async def _send(
    writer: asyncio.StreamWriter, request: httpx.Request, timeout_s: float | None
) -> None:
    """Write head and content, each piece as it comes; what the content raises passes through."""
    chunked = request.headers.get("transfer-encoding") == "chunked"
    fields = [(name.lower(), value) for name, value in request.headers.raw]
    target = request.url.raw_path
    try:
        writer.write(http1.encode_request_head(request.method.encode(), target, fields))
        stream = request.stream
        if not isinstance(stream, httpx.AsyncByteStream):
            raise TypeError("a content that is not asynchronous")
        async for piece in stream:
            writer.write(http1.encode_chunk(piece) if chunked else piece)
            async with asyncio.timeout(timeout_s):
                await writer.drain()
        if chunked:
            writer.write(http1.LAST_CHUNK)
    except TimeoutError:
        raise httpx.WriteTimeout("the request stalled") from None
    except Malformed as error:
        raise httpx.LocalProtocolError(str(error)) from None
    except OSError:
        return  # it stopped listening: it may have answered before


def _origin(url: httpx.URL) -> _Origin:
    return _Origin(url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
