"""What one HTTP connection to the front may take: time for its headers, time to read its answers.

The HTTP server bounds the size of a header section and the time between two requests; `Gateway`
bounds a body. The rest is here: without it, whoever is silent at the right moment holds a
connection, and with an unread answer a capsule and its slot, for ever.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_HEAD = 64 * 1024
"""Most bytes of a header section; the server's own default."""

HEAD_TIMEOUT_S = 10.0
"""For a header section: a few hundred bytes from a relay."""

UNREAD_TIMEOUT_S = 60.0
"""For an answer of which 64 KiB wait unread. A relay waits for its client as long as that."""

LINGER_BYTES = 32 * 1024 * 1024
"""Most bytes read and dropped after an early answer: twice the largest request."""

LINGER_S = 10.0
"""Longest time spent on it."""

SILENCE_S = 1.0
"""Whoever sends nothing for so long is reading the answer, or gone."""


class _Http(h11.Connection):
    """h11, which writes the chunks of a streamed answer without consulting its tables for each.

    An answer is some hundred chunks, one a token. Everything else about a message, its end
    included, is h11's.
    """

    _streaming = False

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override] # h11 overloads it
        """Return the bytes of an event; raises as h11 does."""
        if self._streaming and type(event) is h11.Data and self.our_state is h11.SEND_BODY:
            return b"%x\r\n%b\r\n" % (len(event.data), event.data) if event.data else b""
        written = super().send(event)
        if isinstance(event, h11.Response):
            self._streaming = b"\r\ntransfer-encoding: chunked\r\n" in (written or b"").lower()
        return written


class Connection(H11Protocol):
    """An HTTP/1.1 connection that is closed, without a word, when it takes too long."""

    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a header section."""
        self.conn = _Http(h11.SERVER, MAX_HEAD)
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        for timer in (self._head_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
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
        """The answer is read too slowly: from here on it has its time."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """It was read."""
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()

    def on_response_complete(self) -> None:
        """What is left of a finished answer has its time too."""
        super().on_response_complete()
        self._await_reader()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def _await_reader(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT_S, self._end_if_unread)

    def _end_if_unread(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()


class Lingering:
    """ASGI middleware: an answer that comes before the request was read whole stays readable.

    Closing a socket with unread bytes in it resets the connection, and the reset can overtake the
    answer. So the answer is sent at once, and what still comes is dropped for a while.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            exchange = _Exchange(receive, send)
            receive, send = exchange.receive, exchange.send
        await self._app(scope, receive, send)


class _Exchange:
    """One POST, and whether its body was read."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._read = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._read = self._read or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if self._read:
            await self._send(message)
        elif message["type"] == "http.response.start":
            named = {name for name, _ in message["headers"]}
            close = [] if b"connection" in named else [(b"connection", b"close")]
            await self._send({**message, "headers": [*message["headers"], *close]})
        else:
            await self._send({**message, "more_body": True})
            await self._drop_body()
            await self._send({"type": "http.response.body", "body": b""})

    async def _drop_body(self) -> None:
        left = LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while left > 0 and not self._read:
                    message = await asyncio.wait_for(self.receive(), SILENCE_S)
                    left -= len(message.get("body", b""))
