"""OpenTelemetry traces of a relay or an issuer, by an allow-list: OTLP over HTTP, as JSON.

Off unless `--traces` names a collector, and for these two parties only. A trace is told to somebody
else, so all that it can say is a `Span`: which route was asked, how it was answered, in which
minute, and about how long it took. OpenTelemetry's own instrumentations tell addresses, whole
paths, header fields and the text of exceptions unless each is switched off; here there is nothing
to switch. Every span is a trace of its own, under a random id: what a caller sends as a trace
context is not read, and nothing is passed on.

Spans are sent once a period, in an order that says nothing; those that a collector does not take
are forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from http import HTTPStatus
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.urls import require_private_link

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
OTHER = "_OTHER"
"""For a method or a path of the caller's own invention (OpenTelemetry's word for the first)."""

PERIOD_S = 60.0
KEPT = 8192
"""Spans of one period; further ones are not told."""

TIMEOUT_S = 10.0
_NS = 10**9
_MINUTE_S = 60
_SERVER = 2
"""SPAN_KIND_SERVER."""


@dataclass(frozen=True, order=True)
class Span:
    """All that is told of one request."""

    method: str
    """One of `METHODS`, or `OTHER`."""
    route: str
    """A route as the source has it, never the path that was asked for; or `OTHER`."""
    status: int
    """0: it was not answered."""
    minute: int
    """In which it came, of Unix time."""
    duration_ms: int
    """Rounded up to a power of two."""


class Traced:
    """ASGI middleware: notes a span of every request, and sends them while the app lives.

    Args:
        app: the relay's or the issuer's application.
        service: whose spans these are.
        collector: base URL of who takes OTLP; spans go to its `/v1/traces`.
        transport: how to get there; sockets, if None.

    Raises:
        InsecureUrl: spans would cross a network in clear.
    """

    def __init__(
        self,
        app: Starlette,
        service: str,
        collector: str,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        require_private_link(collector)
        self._app = app
        self._service = service
        self._url = collector.rstrip("/") + "/v1/traces"
        self._transport = transport
        self._spans: list[Span] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the whole life of the application."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "http":
            await self._note(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _note(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"] if scope["method"] in METHODS else OTHER
        route = route_of(self._app, scope)
        status, minute, begun = 0, int(time.time()) // _MINUTE_S, time.monotonic()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            duration_ms = rounded_up((time.monotonic() - begun) * 1000)
            if len(self._spans) < KEPT:
                self._spans.append(Span(method, route, status, minute, duration_ms))

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send_every_period())

        async def last_before_the_end(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):  # who serves waits no longer
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                await self.send()
            await send(message)

        try:
            await self._app(scope, receive, last_before_the_end)
        finally:
            sending.cancel()

    async def _send_every_period(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            await self.send()

    async def send(self) -> None:
        """Send what was noted; what is not taken is forgotten."""
        spans, self._spans = self._spans, []
        if not spans:
            return
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(
                transport=self._transport,
                timeout=TIMEOUT_S,
                trust_env=False,
                headers={"user-agent": "sottovoce"},
            ) as http:
                await http.post(self._url, json=encode(self._service, spans))


def traced(service: str, collector: str | None) -> Callable[[Starlette], ASGIApp]:
    """Return what to put around an application: nothing, where there is no collector.

    Raises:
        InsecureUrl: spans would cross a network in clear.
    """
    if collector is None:
        return lambda app: app
    require_private_link(collector)
    return lambda app: Traced(app, service, collector)


def route_of(app: Starlette, scope: Scope) -> str:
    """Return the route that a request is for, with its parameters' names and not their values."""
    for route in app.routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            return route.path
    return OTHER


def rounded_up(duration_ms: float) -> int:
    """Return the next power of two."""
    return 1 << max(0, math.ceil(duration_ms) - 1).bit_length()


def encode(service: str, spans: Iterable[Span]) -> dict[str, Any]:
    """Encode as an ExportTraceServiceRequest of OTLP 1.x, in JSON, sorted."""
    scope = {"scope": {"name": "sottovoce"}, "spans": [_encode(span) for span in sorted(spans)]}
    resource = {"attributes": [_attribute("service.name", {"stringValue": service})]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _encode(span: Span) -> dict[str, Any]:
    method, route, status, minute, duration_ms = astuple(span)
    begin_ns = minute * _MINUTE_S * _NS
    attributes = [
        _attribute("http.request.method", {"stringValue": method}),
        _attribute("http.route", {"stringValue": route}),
    ]
    if status:
        attributes.append(_attribute("http.response.status_code", {"intValue": str(status)}))
    return {
        "traceId": secrets.token_hex(16),
        "spanId": secrets.token_hex(8),
        "name": f"{method} {route}",
        "kind": _SERVER,
        "startTimeUnixNano": str(begin_ns),
        "endTimeUnixNano": str(begin_ns + duration_ms * 10**6),
        "attributes": attributes,
        "status": {"code": 2 if status >= HTTPStatus.INTERNAL_SERVER_ERROR or not status else 0},
    }


def _attribute(key: str, value: dict[str, str]) -> dict[str, Any]:
    return {"key": key, "value": value}
