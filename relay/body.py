"""A request body as it arrives: bounded in size and in time, and followed by nobody's silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Message, Receive

from relay.errors import BodyTooLarge, BodyTooSlow, ClientGone

MAX_BODY = 16 * 1024 * 1024 + 64 * 1024
"""Most bytes of an encapsulated request: the largest padding class, 16 MiB, and what chunks add to
it: 1127 bytes of header and key, and 20 for each of 1025 chunks."""


class RequestBody:
    """The body of one request, read once, piece by piece, no faster than the reader goes on.

    Raises:
        BodyTooLarge: `declared_length` says so already.
    """

    def __init__(self, receive: Receive, *, declared_length: int | None, timeout_s: float) -> None:
        if declared_length is not None and declared_length > MAX_BODY:
            raise BodyTooLarge
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._complete = asyncio.Event()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body.

        Raises:
            BodyTooLarge, BodyTooSlow: beyond the limits. ClientGone: it ends too early.
        """
        length = 0
        more = True
        while more:
            message = await self._next()
            piece = message.get("body", b"")
            more = message.get("more_body", False)
            length += len(piece)
            if length > MAX_BODY:
                raise BodyTooLarge
            if not more:
                self._complete.set()
            if piece:
                yield piece

    async def client_gone(self) -> None:
        """Wait until the client hangs up after its request was read whole."""
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message
