"""One client's connection: how long it may keep the relay waiting, and how many there may be.

The HTTP server bounds the size of a header section and the time between two requests. It does not
bound the time a header section takes, nor how long a client may leave its answer unread; both
would let a client hold a connection, and the worker's end of it, for as long as it likes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import ClassVar, Protocol

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from relay.addresses import Limited, Places
from wire.http1 import encode_chunk

MAX_HEAD = 64 * 1024
"""Most bytes of a header section; the server's own default."""


@dataclass(frozen=True)
class ConnectionLimits:
    """What one connection may take; the reasons are in `relay.config`."""

    head_timeout_s: float
    unread_timeout_s: float
    limited: Limited
    places: Places


class Source(Protocol):
    """What an answer comes from; it is held up while the client reads too slowly."""

    def pause(self) -> None: ...  # noqa: D102
    def resume(self) -> None: ...  # noqa: D102


class Streaming:
    """The short way for the content of an answer without a length, once its start was sent.

    ASGI's own way costs a coroutine and a dictionary in every layer, and a look at h11's tables,
    for each of some hundred pieces. Start and end go that way; h11 does not count what is between.
    """

    def __init__(self, connection: Connection, http_version: str) -> None:
        self._connection = connection
        self._encode = encode_chunk if http_version == "1.1" else bytes

    def follow(self, source: Source | None) -> None:
        """Hold up `source`, from now on, whenever the client reads too slowly."""
        self._connection.source = source

    def write(self, data: bytes) -> None:
        """Send a piece of content; to nobody, once the client has gone."""
        if not self._connection.transport.is_closing():
            self._connection.transport.write(self._encode(data))


EXTENSION = "sottovoce.streaming"
"""Where a request's `Streaming` stands in `scope["extensions"]`."""


class Connection(H11Protocol):
    """An HTTP/1.1 connection that is closed, without a word, when it takes too long."""

    limits: ClassVar[ConnectionLimits]

    source: Source | None = None
    """What is held up while the client does not read."""

    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _key: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a header section, if the address may have another connection."""
        self.conn = h11.Connection(h11.SERVER, MAX_HEAD)
        super().connection_made(transport)
        self.app = _extended(self.app, self)
        self._await_head()
        key = self.limits.limited.key(self.client[0]) if self.client else None
        if key is None:
            return
        if self.limits.places.take(key):
            self._key = key
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything about the client."""
        for timer in (self._head_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        if self._key is not None:
            self.limits.places.leave(self._key)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; a header section that is still incomplete has its time."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_head()
        elif self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def pause_writing(self) -> None:
        """The client reads too slowly: from here on it has its time."""
        super().pause_writing()
        self._await_reader()
        if self.source is not None:
            self.source.pause()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if self.source is not None:
            self.source.resume()
        if self._unread_timer is not None:
            self._unread_timer.cancel()

    def on_response_complete(self) -> None:
        """What is left of a finished answer has its time too, also while the connection closes."""
        super().on_response_complete()
        self._await_reader()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(
                self.limits.head_timeout_s, self.transport.abort
            )

    def _await_reader(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        self._unread_timer = self.loop.call_later(self.limits.unread_timeout_s, self._end_if_unread)

    def _end_if_unread(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()


def _extended(app: ASGIApp, connection: Connection) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {EXTENSION: Streaming(connection, scope["http_version"])}
        await app(scope, receive, send)

    return call


def connection_class(limits: ConnectionLimits) -> type[Connection]:
    """Return the connections of one relay."""
    return type("RelayConnection", (Connection,), {"limits": limits})
