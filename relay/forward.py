"""The one thing a relay is for: carry an encapsulated request to its node, and the answer back.

What crosses is listed here and nowhere else. Towards the worker: the body, its media type, and
`Incremental`. Towards the client: the status, media type, `Incremental`, `Retry-After`, and the
body, each piece as soon as it comes. Nothing is retried: a relay that retries is a relay that
replays (RFC 9458, section 6.5).

A response that breaks off is broken off towards the client as well. A clean end would make a cut
stream look whole to whoever does not check the final chunk.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from relay.batches import Batches, Held
from relay.body import RequestBody
from relay.connection import EXTENSION, Streaming
from relay.errors import BrokenOff, ClientGone, Refusal, UnknownNode, WrongMediaType
from relay.nodes import NODE, NodeDirectory
from relay.problem import refused
from relay.upstream import Response, Upstream

MEDIA_TYPES = frozenset(("message/ohttp-req", "message/ohttp-chunked-req"))
"""What an encapsulated request is sent as (RFC 9458; draft-ietf-ohai-chunked-ohttp-08)."""

_INCREMENTAL = "?1"  # the only value that says anything (a structured-field boolean)

_MEDIA_TYPE = re.compile(r"[\x21-\x7e]{1,64}/?[\x20-\x7e]{0,64}")
_RETRY_AFTER = re.compile(r"[0-9]{1,6}")  # seconds; a date would be the worker's clock


class Forwarder:
    """The ASGI application behind `POST /{node}`."""

    def __init__(
        self,
        directory: NodeDirectory,
        upstream: Upstream,
        *,
        body_timeout_s: float,
        worker_timeout_s: float,
        batches: Batches | None = None,
    ) -> None:
        self._batches = batches
        self._directory = directory
        self._upstream = upstream
        self._body_timeout_s = body_timeout_s
        self._worker_timeout_s = worker_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request; refuse it as a problem document; or fall silent."""
        try:
            worker, receive = await self._find_worker(scope, receive)
            headers = forwarded_headers(scope["headers"])
            url = worker + "/gateway"
            body = RequestBody(
                receive,
                declared_length=_declared_length(scope["headers"]),
                timeout_s=self._body_timeout_s,
            )
            streaming = scope["extensions"][EXTENSION]
            await self._until_gone(self._forward(url, headers, body, send, streaming), body)
        except Refusal as refusal:
            await refused(refusal)(scope, receive, send)
        except ClientGone:
            pass  # nobody is left to answer

    async def _find_worker(self, scope: Scope, receive: Receive) -> tuple[str, Receive]:
        """Return the base URL of the worker that is asked for, and where its request comes from."""
        node = scope["path_params"]["node"]
        if not NODE.fullmatch(node):
            raise UnknownNode
        return await self._directory.find(node), receive

    async def _until_gone(self, forward: Coroutine[Any, Any, None], body: RequestBody) -> None:
        """Run `forward`, and break it off when the client hangs up."""
        forwarding = asyncio.create_task(forward)
        watching = asyncio.create_task(body.client_gone())
        try:
            await asyncio.wait((forwarding, watching), return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            forwarding.cancel()
            await asyncio.wait((forwarding, watching))
        if not forwarding.cancelled():
            forwarding.result()

    async def _forward(
        self,
        url: str,
        headers: dict[str, str],
        body: RequestBody,
        send: Send,
        streaming: Streaming,
    ) -> None:
        if self._batches is not None:
            await self._batches.turn()
        sent = self._upstream.post(url, headers, body.pieces(), timeout_s=self._worker_timeout_s)
        async with sent as response:
            if self._batches is not None:
                await self._batches.turn()
            await send(_start(response))
            try:
                await self._deliver(response, streaming)
            except BrokenOff:
                # The response stays without its end, so that the server closes the connection.
                return
            finally:
                streaming.follow(None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _deliver(self, response: Response, streaming: Streaming) -> None:
        """Write the content as it comes, or at ticks; returns when its end may follow."""
        if self._batches is None:
            streaming.follow(response)
            await response.deliver(streaming.write)
            return
        if content := response.take():
            streaming.write(content)  # it waited for the tick that the head waited for
        with Held(self._batches, streaming.write, response) as held:
            streaming.follow(held)
            try:
                await response.deliver(held.write)
            finally:
                await self._batches.turn()


def forwarded_headers(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return all the fields a worker is sent, rewritten so that no spelling tells clients apart.

    Raises:
        WrongMediaType: not one of `MEDIA_TYPES`.
    """
    media_type = _field(headers, b"content-type").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise WrongMediaType
    forwarded = {"content-type": media_type}
    if _field(headers, b"incremental") == _INCREMENTAL:
        forwarded["incremental"] = _INCREMENTAL
    return forwarded


def _field(headers: list[tuple[bytes, bytes]], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in headers if key == name), "")


def _declared_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    value = _field(headers, b"content-length")
    return int(value) if value.isdecimal() else None


def _start(response: Response) -> Message:
    headers = [(b"cache-control", b"no-store")]
    for name, allowed in (("content-type", _MEDIA_TYPE), ("retry-after", _RETRY_AFTER)):
        value = response.headers.get(name, "")
        if allowed.fullmatch(value):
            headers.append((name.encode(), value.encode()))
    if response.headers.get("incremental") == _INCREMENTAL:
        headers.append((b"incremental", _INCREMENTAL.encode()))
    return {"type": "http.response.start", "status": response.status, "headers": headers}
