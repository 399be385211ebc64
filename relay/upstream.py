"""The relay's one way out: plain HTTP requests with exactly the fields given, tried once.

It is a transport of httpx's kind without its client. A client would add a user agent, keep cookies,
follow redirects, look for proxies in the environment and log each URL.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

from relay.errors import TimedOut, Unreachable
from relay.http1 import Http1Transport

_CONNECT_TIMEOUT_S = 5.0  # a worker is near; whoever takes longer to accept is not serving
_WRITE_TIMEOUT_S = 30.0  # a worker reads as fast as the network, or is stuck


@dataclass(frozen=True)
class Document:
    """A small response, read whole."""

    status: int
    headers: httpx.Headers
    body: bytes


class Upstream:
    """Connections to workers and log. Use as an async context manager."""

    def __init__(self, authorities: Path | None = None) -> None:
        context = ssl.create_default_context(cafile=authorities)
        self._transport = Http1Transport(context)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()

    def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes],
        *,
        timeout_s: float,
    ) -> AbstractAsyncContextManager[httpx.Response]:
        """Send a request as its body arrives; the response, whose stream is not yet read.

        Leaving the context closes the connection unless the response was read to its end. What
        `body` raises passes through and breaks the request off.

        Raises:
            Unreachable, TimedOut: there is no response, see there.
        """
        return self._send(httpx.Request("POST", url, headers=headers, content=body), timeout_s)

    async def get(self, url: str, *, limit: int, timeout_s: float) -> Document:
        """Fetch a document of at most `limit` bytes.

        Raises:
            Unreachable, TimedOut: no whole document in time, or a longer one.
        """
        async with self._send(httpx.Request("GET", url), timeout_s) as response:
            body = bytearray()
            try:
                async for piece in pieces(response):
                    body += piece
                    if len(body) > limit:
                        raise Unreachable
            except httpx.TransportError:
                raise Unreachable from None
            return Document(response.status_code, response.headers, bytes(body))

    @asynccontextmanager
    async def _send(
        self, request: httpx.Request, timeout_s: float
    ) -> AsyncIterator[httpx.Response]:
        timeout = httpx.Timeout(timeout_s, connect=_CONNECT_TIMEOUT_S, write=_WRITE_TIMEOUT_S)
        request.extensions = {"timeout": timeout.as_dict()}
        try:
            response = await self._transport.handle_async_request(request)
        except (httpx.ReadTimeout, httpx.WriteTimeout):
            raise TimedOut from None
        except httpx.TransportError:
            raise Unreachable from None
        try:
            yield response
        finally:
            await response.aclose()


def pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """Return the content of a response, each piece as it comes."""
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("a response that was not read asynchronously")
    return aiter(response.stream)
