"""A caller's connection to the proxy, and the short way for a stream of events."""

from __future__ import annotations

import asyncio
import secrets

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from client import openai_errors
from wire.http1 import encode_chunk

REQUEST_ID_FIELD = "x-request-id"

EXTENSION = "sottovoce.streaming"
"""Where a request's `Streaming` stands in `scope["extensions"]`."""


def request_id() -> str:
    """Return a fresh id for one request; the caller alone is told it."""
    return f"req_{secrets.token_hex(12)}"


class Streaming:
    """The short way for the content of an answer without a length, once its start was sent.

    ASGI's own way costs a coroutine and a dictionary in every layer, and a look at h11's tables,
    for each of some hundred events. Start and end go that way; h11 does not count what is between.
    """

    def __init__(self, connection: H11Protocol, http_version: str) -> None:
        self._connection = connection
        self._encode = encode_chunk if http_version == "1.1" else bytes

    def write(self, data: bytes) -> None:
        """Send a piece of content; to nobody, once the caller has gone."""
        if not self._connection.transport.is_closing():
            self._connection.transport.write(self._encode(data))

    @property
    def full(self) -> bool:
        """Whether the caller reads too slowly: then `room` should be waited for."""
        return self._connection.flow.write_paused

    async def room(self) -> None:
        """Wait until the caller has read, or gone."""
        await self._connection.flow.drain()


class CallerConnection(H11Protocol):
    """An HTTP/1.1 connection whose requests bring their `Streaming`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self.app = _extended(self.app, self)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - h11's words; we have our own
        """Answer bytes that are no HTTP request, and close."""
        content = openai_errors.malformed_http()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n"
            f"{REQUEST_ID_FIELD}: {request_id()}\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()


def _extended(app: ASGIApp, connection: H11Protocol) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {EXTENSION: Streaming(connection, scope["http_version"])}
        await app(scope, receive, send)

    return call
