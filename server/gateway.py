"""`POST /gateway`: from a body in ciphertext to a capsule, and back.

What is answered in clear says only what the relay may know anyway:

    405   not POST
    415   not one of the two media types of a request
    413   longer than a request can be
    408   the body came too slowly
    400   a key or suite this node does not have; a problem document, so that clients renew theirs
    422   it does not open, for whatever reason; empty, always the same
    503   no capsule free, or it broke, or too many wait to be checked; Retry-After

What is not authentic is found out by the keeper, without decrypting it, before a capsule is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from server.capsule_pool import CapsuleConnection, CapsulePool, NoCapsule
from server.errors import PeerGone, ProtocolError, Rejected
from server.keeper_checks import Checker, Lane
from server.messages import (
    Admission,
    Admit,
    Admitted,
    Chunk,
    End,
    Mark,
    Marked,
    Message,
    Quote,
    Refund,
    Refunded,
    Reject,
    Request,
    Spend,
    Spending,
    Spent,
    Start,
)
from server.metrics import Metrics
from server.quotes import Quoter
from server.refunds import Refunder, items_of
from server.replay import ReplaySet
from server.spending import Store
from wire import ohttp

_MEDIA_TYPES = {ohttp.REQUEST_TYPE.encode(): False, ohttp.CHUNKED_REQUEST_TYPE.encode(): True}
_RESPONSE_TYPES = {False: ohttp.RESPONSE_TYPE.encode(), True: ohttp.CHUNKED_RESPONSE_TYPE.encode()}

_KEY_PROBLEM = json.dumps(
    {"type": ohttp.KEY_PROBLEM, "title": "The key or suite is not known here.", "status": 400},
    separators=(",", ":"),
).encode()


class Disconnected(Exception):
    """The client closed its connection."""


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take."""

    max_body: int
    body_timeout_s: float
    max_requests: int


class Gateway:
    """The gateway resource, as an ASGI application of its own.

    Args:
        pool: where capsules come from.
        replays: the replay set, this worker's only one.
        store: the spent-token store.
        checker: says whether a request will open.
        refunder: where spent tokens are given back, blindly.
        quoter: who has the platform quote.
        kem_of: the KEM of a key id, if it is one of this node's.
        clock: Unix seconds.
    """

    def __init__(
        self,
        pool: CapsulePool,
        replays: ReplaySet,
        store: Store,
        metrics: Metrics,
        limits: Limits,
        *,
        checker: Checker,
        refunder: Refunder,
        quoter: Quoter,
        kem_of: Callable[[int], int | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._replays = replays
        self._store = store
        self._checker = checker
        self._unchecked = Lane()
        self._refunder = refunder
        self.quoter = quoter
        self._metrics = metrics
        self._limits = limits
        self._kem_of = kem_of
        self._clock = clock
        self.admitted = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        try:
            await self._serve(scope, receive, send)
        except Disconnected:
            return
        except Rejected as rejected:
            self._metrics.answered(rejected.status)
            await _answer_in_clear(send, rejected.status)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await self._read(scope, receive)
        self._check_key(request.encapsulated_request)
        with contextlib.ExitStack() as lane:
            if not await self._checker.check(request):
                await self._unchecked.enter()
                lane.callback(self._unchecked.leave)
            try:
                async with self._pool.capsule() as capsule:
                    exchange = Exchange(self, capsule, send, on_opened=lane.close)
                    await _while_connected(exchange.run(request), receive)
            except NoCapsule:
                raise Rejected(503) from None

    def _check_key(self, encapsulated_request: bytes) -> None:
        if not encapsulated_request:
            raise Rejected(422)
        kem = self._kem_of(encapsulated_request[0])
        if kem is None or not kem.to_bytes(2, "big").startswith(encapsulated_request[1:3]):
            raise Rejected(400)  # what is too short to name its KEM does not open: 422, later

    async def _read(self, scope: Scope, receive: Receive) -> Request:
        if scope["method"] != "POST":
            raise Rejected(405)
        headers = dict(scope["headers"])
        chunked = _MEDIA_TYPES.get(headers.get(b"content-type", b""))
        if chunked is None:
            raise Rejected(415)
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                return Request(chunked, await self._read_body(receive))
        except TimeoutError:
            raise Rejected(408) from None

    async def _read_body(self, receive: Receive) -> bytes:
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limits.max_body:
                raise Rejected(413)
        return bytes(body)

    def mark(self, mark: Mark) -> Marked:
        """Answer MARK."""
        marking = self._replays.mark(mark.enc, mark.expiry, self._clock())
        self._metrics.marked(marking)
        return Marked(marking)

    def admit(self) -> Admitted:
        """Answer ADMIT; whoever is told OK counts until its capsule has ended."""
        room = self.admitted < self._limits.max_requests
        self.admitted += room
        admission = Admission.OK if room else Admission.BUSY
        self._metrics.admission(admission)
        return Admitted(admission)

    def leave(self) -> None:
        """Give back a place that ADMIT gave."""
        self.admitted -= 1

    async def spend(self, spend: Spend) -> Spent:
        """Answer SPEND."""
        spending = await self._store.spend(spend)
        self._metrics.spent(spending)
        return Spent(spending)

    async def refund(self, spend: Spend, refund: Refund) -> Refunded:
        """Answer REFUND, of a request whose SPEND was answered OK."""
        signatures = await self._refunder.refund(items_of(spend, refund))
        self._metrics.refunded(signatures)
        return Refunded(tuple(signatures))

    def answered(self, status: int) -> None:
        """Count an answer."""
        self._metrics.answered(status)

    def cut(self) -> None:
        """Count an answer without an end."""
        self._metrics.cut()


class Exchange:
    """One request's conversation with its capsule. Every question may be asked once, in order."""

    _ORDER: tuple[type[Message], ...] = (Mark, Admit, Spend, Quote, Start)

    def __init__(
        self,
        gateway: Gateway,
        capsule: CapsuleConnection,
        send: Send,
        *,
        on_opened: Callable[[], None],
    ) -> None:
        self._gateway = gateway
        self._on_opened = on_opened
        self._capsule = capsule
        self._send = send
        self._turn = 0
        self._key_id = 0
        self._started = False
        self._ended = False
        self._spend: Spend | None = None
        """What was spent and can still be given back."""

    async def run(self, request: Request) -> None:
        """Converse until the answer is complete, or cut.

        Returning without its end makes the HTTP server close the connection inside the response.

        Raises:
            Rejected: nothing was answered yet.
        """
        self._key_id = request.encapsulated_request[0]
        try:
            await self._capsule.send(request)
            while not self._ended:
                await self._on_message(await self._capsule.receive())
        except (PeerGone, ProtocolError):
            if not self._started:
                raise Rejected(503) from None
            self._gateway.cut()
            return
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _on_message(self, message: Message) -> None:
        if isinstance(message, Chunk) and self._started:
            body = {"type": "http.response.body", "body": message.data, "more_body": True}
            await self._send(body)
            return
        if isinstance(message, End) and self._started:
            self._ended = True
            return
        if isinstance(message, Reject) and not self._turn:
            raise Rejected(message.status)
        if isinstance(message, Refund):
            await self._refund(message)
            return
        self._take_turn(message)
        if isinstance(message, Mark):
            await self._capsule.send(self._gateway.mark(message))
        elif isinstance(message, Admit):
            admitted = self._gateway.admit()
            if admitted.admission is Admission.OK:
                self._capsule.at_end(self._gateway.leave)
            await self._capsule.send(admitted)
        elif isinstance(message, Spend):
            spent = await self._gateway.spend(message)
            self._spend = message if spent.spending is Spending.OK else None
            await self._capsule.send(spent)
        elif isinstance(message, Quote):
            await self._quote(message)
        elif isinstance(message, Start):
            self._started = True
            self._capsule.started()
            self._gateway.answered(200)
            await self._send(_response_start(chunked=message.chunked))

    async def _quote(self, quote: Quote) -> None:
        if self._spend is None:
            raise ProtocolError("a quote that was not paid for")
        # Of which generation, the ciphertext has said: a capsule has no choice.
        await self._capsule.send(await self._gateway.quoter.quote(self._key_id, quote.nonce))

    async def _refund(self, refund: Refund) -> None:
        spend, self._spend = self._spend, None
        if spend is None or len(refund.messages) > len(spend.rows):
            raise ProtocolError("a refund of what was not spent")
        await self._capsule.send(await self._gateway.refund(spend, refund))

    def _take_turn(self, message: Message) -> None:
        if type(message) not in self._ORDER[self._turn :]:
            raise ProtocolError("a message out of turn")
        if not self._turn:
            self._on_opened()
        self._turn = self._ORDER.index(type(message)) + 1


async def _while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Do `work`, but stop as soon as the client has gone.

    Raises:
        Disconnected: it has.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnection(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Disconnected
        await working
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _response_start(*, chunked: bool) -> AsgiMessage:
    headers = [(b"content-type", _RESPONSE_TYPES[chunked]), (b"cache-control", b"no-store")]
    if chunked:
        headers.append((b"incremental", b"?1"))
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def _answer_in_clear(send: Send, status: int) -> None:
    body = _KEY_PROBLEM if status == 400 else b""
    headers = [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    if status == 400:
        headers.append((b"content-type", b"application/problem+json"))
    if status == 405:
        headers.append((b"allow", b"POST"))
    if status == 503:
        headers.append((b"retry-after", b"1"))
    if status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
