"""Answers that come before a request was read whole, kept readable.

Closing a socket with unread bytes in it makes the kernel reset the connection, and the reset can
overtake the answer: the client would see a broken connection in place of the reason. So the answer
is sent at once, and what the client still sends is read and dropped for a while before the end.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_BYTES = 32 * 1024 * 1024
"""Most bytes dropped: a body of twice the permitted size is still told so."""

LINGER_S = 10.0
"""Longest time spent on it. At the relay's slowest permitted client it drops 2.5 MB."""

SILENCE_S = 1.0
"""A client that sends nothing for so long is reading, or gone."""


class Lingering:
    """ASGI middleware: an early answer closes the connection, but not before it can be read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and _has_body(scope["headers"]):
            exchange = _Exchange(receive, send)
            receive, send = exchange.receive, exchange.send
        await self._app(scope, receive, send)


class _Exchange:
    """One request with a body, and whether that was read."""

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
            await self._send(_closing(message))
        elif message.get("more_body", False):
            await self._send(message)
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


def _has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in headers
    )


def _closing(start: Message) -> Message:
    headers = list(start.get("headers", ()))
    if not any(name == b"connection" for name, _ in headers):
        headers.append((b"connection", b"close"))
    return {**start, "headers": headers}
