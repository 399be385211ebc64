"""The relay as a service: its resources, its start and its end.

POST /{node}                             an encapsulated request, carried to its node
GET  /checkpoint, /nodes, /tile/...      the log's documents, cached
GET  /health                             {"status": "ok", "nodes": <how many are known>}

and, only with `stock_ohttp`, what `relay.stock` says.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from relay.addresses import Limited, Places, Rates
from relay.batches import Batches
from relay.cache import LogCache
from relay.config import RelayConfig
from relay.connection import Connection, ConnectionLimits, connection_class
from relay.errors import Refusal, StartFailed, TooManyRequests
from relay.forward import Forwarder
from relay.linger import Lingering
from relay.logs import log_without_detail, start_logging
from relay.nodes import NodeDirectory
from relay.problem import problem, refused
from relay.stock import KeyDirectory, StockForwarder, stock_routes
from relay.upstream import Upstream

MAX_CONNECTIONS = 4096
"""Most connections at once; a further one is told 503. Each holds at most 64 KiB of an answer
and what one more read brings, 256 KiB at most."""

_OPEN_FILES = 2 * MAX_CONNECTIONS + 128
"""Each connection of a client has one to a worker."""


def create_app(config: RelayConfig) -> Starlette:
    """Build the ASGI application of a relay. Its lifespan polls the workers."""
    upstream = Upstream(config.authorities)
    directory = NodeDirectory(config.worker_urls, upstream)
    cache = LogCache(config.log_url, upstream)
    options: dict[str, Any] = {
        "body_timeout_s": config.body_timeout_s,
        "worker_timeout_s": config.worker_timeout_s,
        "batches": Batches(config.batch_s) if config.batch_s else None,
    }
    forwarder = Forwarder(directory, upstream, **options)
    keys = KeyDirectory(config.worker_urls if config.stock_ohttp else (), upstream)
    stock = stock_routes(keys, StockForwarder(keys, directory, upstream, **options))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(log_without_detail)
        async with upstream:
            await asyncio.gather(directory.refresh(), keys.refresh())
            polls = directory.poll(config.poll_interval_s), keys.poll(config.poll_interval_s)
            polling = asyncio.gather(*polls)
            yield
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await polling

    async def health(_: Request) -> Response:
        return JSONResponse(
            {"status": "ok", "nodes": len(directory)}, headers={"cache-control": "no-store"}
        )

    async def document(request: Request) -> Response:
        entry, seconds = await cache.get(request.scope["path"])
        headers = {
            "content-type": entry.content_type,
            "cache-control": f"public, max-age={seconds}" if seconds else "no-store",
        }
        return Response(entry.body, headers=headers)

    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/checkpoint", document),
            Route("/nodes", document),
            Route("/tile/{rest:path}", document),
            *(stock if config.stock_ohttp else ()),
            Route("/{node}", forwarder, methods=["POST"]),
        ],
        middleware=[
            Middleware(Lingering),
            Middleware(
                RateLimit,
                limited=Limited(config.unlimited),
                rates=Rates(config.requests_per_s, config.burst),
            ),
        ],
        exception_handlers={Refusal: _on_refusal, HTTPException: _on_http_exception},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would repeat the client's Host to it
    return app


class RateLimit:
    """ASGI middleware: refuses an address that asks too often, before anything else is done."""

    def __init__(self, app: ASGIApp, limited: Limited, rates: Rates) -> None:
        self._app = app
        self._limited = limited
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        client = scope.get("client") if scope["type"] == "http" else None
        key = self._limited.key(client[0]) if client else None
        if key is None or self._rates.allow(key):
            await self._app(scope, receive, send)
        else:
            await refused(TooManyRequests())(scope, receive, send)


def serve(config: RelayConfig, around: Callable[[Starlette], ASGIApp] = lambda app: app) -> None:
    """Serve a relay until SIGTERM or SIGINT; running requests may then finish.

    `around` puts something around the application, or nothing.

    Raises:
        OSError: the address is taken, or a file cannot be read.
        StartFailed: the application could not start.
    """
    start_logging()
    _allow_open_files()
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.create_server((config.host, config.port), family=family) as listener:
        server = uvicorn.Server(_server_config(config, around))
        try:
            with _stopped_by_signals():
                server.run(sockets=[listener])
        except _Stopped:
            return
    if not server.started:
        raise StartFailed("the relay could not start")


def _allow_open_files() -> None:
    """Raise the soft limit of open files to what the relay may need, as far as is permitted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections(config: RelayConfig) -> type[Connection]:
    """Return the class of the connections that `create_app` is served by."""
    limits = ConnectionLimits(
        config.head_timeout_s,
        config.unread_timeout_s,
        Limited(config.unlimited),
        Places(config.connections_per_address),
    )
    return connection_class(limits)


def _server_config(
    config: RelayConfig, around: Callable[[Starlette], ASGIApp] = lambda app: app
) -> uvicorn.Config:
    return uvicorn.Config(
        around(create_app(config)),
        ssl_certfile=config.certificate,
        ssl_keyfile=config.private_key,
        loop="asyncio",
        http=connections(config),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=config.drain_timeout_s,
    )


class _Stopped(BaseException):
    """A signal has asked the relay to end."""


def _stop(_: int, __: FrameType | None) -> None:
    raise _Stopped


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGINT raise `_Stopped`.

    uvicorn puts its own handlers in place while it serves. At its end it raises the signal again,
    for whoever had a handler before; without this one, that would kill the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _on_refusal(_: Request, refusal: Exception) -> Response:
    if not isinstance(refusal, Refusal):
        raise refusal
    return refused(refusal)


async def _on_http_exception(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return problem(HTTPStatus(error.status_code))
