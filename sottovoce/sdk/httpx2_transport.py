"""Transports for httpx2: `httpx2.Client(transport=Transport(session), base_url=BASE)`."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Iterator

import httpx2

from sottovoce.sdk.asgi import BrokenOff, Question, Reply
from sottovoce.sdk.session import Session

BASE = "http://sottovoce.invalid"
"""A base URL for clients that want one; no name is resolved and nothing is spoken to by it."""


class Transport(httpx2.BaseTransport):
    """The private path for a synchronous client; closes its session only if told to."""

    def __init__(self, session: Session, *, closes_session: bool = False) -> None:
        self._session = session
        self._closes_session = closes_session

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request; the timeout for reading bounds each silence."""
        limit = _limit(request)
        asked = self._session.ask(_question(request, request.read()))
        try:
            reply = asked.result(limit)
        except concurrent.futures.TimeoutError:
            asked.cancel()
            raise httpx2.ReadTimeout("no answer came in time", request=request) from None
        except BrokenOff as error:
            raise httpx2.ReadError(str(error), request=request) from None
        stream = _Stream(self._session, reply, limit)
        return httpx2.Response(reply.status, headers=list(reply.headers), stream=stream)

    def close(self) -> None:
        """End the session, if it is this transport's to end."""
        if self._closes_session:
            self._session.close()


class AsyncTransport(httpx2.AsyncBaseTransport):
    """The private path for an asyncio client; closes its session only if told to."""

    def __init__(self, session: Session, *, closes_session: bool = False) -> None:
        self._session = session
        self._closes_session = closes_session

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request; the timeout for reading bounds each silence."""
        limit = _limit(request)
        asked = self._session.ask(_question(request, await request.aread()))
        try:
            reply = await asyncio.wait_for(asyncio.wrap_future(asked), limit)
        except TimeoutError:
            raise httpx2.ReadTimeout("no answer came in time", request=request) from None
        except BrokenOff as error:
            raise httpx2.ReadError(str(error), request=request) from None
        stream = _AsyncStream(self._session, reply, limit)
        return httpx2.Response(reply.status, headers=list(reply.headers), stream=stream)

    async def aclose(self) -> None:
        """End the session, if it is this transport's to end."""
        if self._closes_session:
            await asyncio.to_thread(self._session.close)


class _Stream(httpx2.SyncByteStream):
    def __init__(self, session: Session, reply: Reply, limit: float | None) -> None:
        self._session, self._reply, self._limit = session, reply, limit

    def __iter__(self) -> Iterator[bytes]:
        try:
            while (
                piece := self._session.submit(self._reply.next()).result(self._limit)
            ) is not None:
                yield piece
        except concurrent.futures.TimeoutError:
            raise httpx2.ReadTimeout("the answer stalled") from None
        except BrokenOff as error:
            raise httpx2.ReadError(str(error)) from None

    def close(self) -> None:
        self._session.hang_up(self._reply).result()


class _AsyncStream(httpx2.AsyncByteStream):
    def __init__(self, session: Session, reply: Reply, limit: float | None) -> None:
        self._session, self._reply, self._limit = session, reply, limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (piece := await self._next()) is not None:
                yield piece
        except TimeoutError:
            raise httpx2.ReadTimeout("the answer stalled") from None
        except BrokenOff as error:
            raise httpx2.ReadError(str(error)) from None

    async def _next(self) -> bytes | None:
        piece = self._session.submit(self._reply.next())
        return await asyncio.wait_for(asyncio.wrap_future(piece), self._limit)

    async def aclose(self) -> None:
        await asyncio.wrap_future(self._session.hang_up(self._reply))


def _question(request: httpx2.Request, body: bytes) -> Question:
    url = request.url
    return Question(request.method, url.path, url.query, request.headers.raw, body)


def _limit(request: httpx2.Request) -> float | None:
    limit: float | None = request.extensions.get("timeout", {}).get("read")
    return limit
