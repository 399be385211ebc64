"""The local proxy: OpenAI's API on loopback, the whole private path behind it.

Any OpenAI client points its base URL here and changes nothing else. Its API key is read by nobody
and its headers stop here; what leaves is one canonical, padded, encapsulated request.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from attestation.verifier.policy import ClientPolicy
from client import metrics, openai_errors, sse
from client.appraisal import refuses_simulated, simulated_refused
from client.canonical import canonical_body, parse_body
from client.connection import REQUEST_ID_FIELD, CallerConnection, request_id
from client.errors import ClientError, NoNode, PortTaken, RequestRefused
from client.exchange import TIMEOUT, Relay
from client.hosts import OwnNames
from client.http1 import Http1Transport
from client.nodes import NodeDirectory
from client.page.routes import routes as page_routes
from client.passage import Passage
from client.remedies import explain
from client.streaming import EventStream, gone, typed_event
from client.token_file import TokenFile
from client.transport import Transport
from client.trust import Trust
from client.urls import require_private_link
from client.wallet import Wallet
from wire import unserved

MAX_BODY = 16 << 20
"""Bytes of the largest request taken: the largest padding class."""

CALLER_GONE = 499
"""The status of an answer that nobody is there to read; customary, and seen in metrics only."""

_NOT_SERVED = (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED)

EVIDENCE = "application/cmw+json"

_HEX_32 = re.compile(r"[0-9a-f]{64}")

KEPT_PASSAGES = 256
"""Passages kept for `GET /verification`; they hold steps and reasons, never content."""


@dataclass(frozen=True)
class ProxyConfig:
    """Everything the proxy is started with.

    Raises:
        InsecureUrl: relay or issuer would be spoken to in clear beyond this machine.
    """

    trust: Trust
    policy: ClientPolicy
    relay_url: str
    issuer_url: str
    account_key: str
    state: Path
    """A folder of the user's own for the last checkpoint seen and the wallet."""
    host: str = "127.0.0.1"
    port: int = 8080

    @property
    def wallet_path(self) -> Path:
        """The file of the tokens."""
        return self.state / "wallet.json"

    def __post_init__(self) -> None:
        for url in (self.relay_url, self.issuer_url):
            require_private_link(url)


class Proxy:
    """The parts of one running proxy, and what it has found out."""

    def __init__(self, config: ProxyConfig) -> None:
        self.config = config
        # One connection a stream; `trust_env` off so that no environment proxy sees a request.
        streams = Http1Transport(httpx.create_ssl_context(trust_env=False))
        self.http = httpx.AsyncClient(
            transport=streams,
            timeout=TIMEOUT,
            trust_env=False,
            follow_redirects=False,
            headers={"user-agent": "sottovoce", "accept": "*/*", "accept-encoding": "identity"},
        )
        self.directory = NodeDirectory(
            trust=config.trust,
            policy=config.policy,
            relay_url=config.relay_url,
            http=self.http,
            state=config.state / "checkpoint.json",
        )
        self.wallet = Wallet(
            issuer_url=config.issuer_url,
            account_key=config.account_key,
            issuer_keys=self.directory.issuer_keys,
            http=self.http,
            path=config.wallet_path,
        )
        self.transport = Transport(
            directory=self.directory,
            wallet=self.wallet,
            relay=Relay(config.relay_url, streams),
        )
        self.passages: OrderedDict[str, Passage] = OrderedDict()

    def begin(self, request_id: str) -> Passage:
        """Begin to note the way of one request, forgetting the oldest beyond `KEPT_PASSAGES`."""
        passage = self.passages[request_id] = Passage()
        while len(self.passages) > KEPT_PASSAGES:
            self.passages.popitem(last=False)
        return passage

    def gauges(self) -> dict[str, int]:
        """Return what there is now, by the names of metrics."""
        known = self.directory.known
        return {
            "nodes": 0 if known is None else len(known.nodes),
            "tokens": len(self.wallet),
            "tokens_given_back": self.wallet.given_back,
            "redraws": self.transport.redraws,
        }

    async def verification(self) -> dict[str, Any]:
        """Return all verdicts as JSON: the trust anchor, every node, the latest requests."""
        error: ClientError | None = None
        try:
            (await self.directory.current()).require_any()
        except ClientError as failure:
            error = failure
        known = self.directory.known
        return {
            "log": self.config.trust.log_origin,
            "simulated": self.config.trust.simulated,
            "accepted_weaknesses": sorted(self.config.policy.accepted_weaknesses),
            "error": None if error is None else {"code": error.code, "message": explain(error)},
            "tokens": len(self.wallet),
            "tokens_given_back": self.wallet.given_back,
            "redraws": self.transport.redraws,
            "nodes": [] if known is None else known.to_json(),
            "requests": [
                {"id": request_id, **passage.verdict.to_json()}
                for request_id, passage in reversed(self.passages.items())
                if passage.verdict is not None
            ],
        }


NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""FastAPI's own would tell paths, and of a failure its text, to whom the environment names."""

routes = APIRouter()


def build_app(config: ProxyConfig) -> FastAPI:
    """Build the proxy's ASGI application."""
    app = FastAPI(
        lifespan=_lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry=NO_TELEMETRY,
    )
    app.state.config = config
    app.include_router(routes)
    app.include_router(page_routes)
    app.add_exception_handler(ClientError, _client_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(OwnNames, listens_on=config.host)
    app.state.counts = Counter[int]()
    app.add_middleware(_RequestId, counts=app.state.counts)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.proxy = proxy = Proxy(app.state.config)
    ahead = asyncio.gather(proxy.wallet.keep_filled(), proxy.transport.keep_prepared())
    yield
    ahead.cancel()
    await asyncio.gather(ahead, return_exceptions=True)
    proxy.wallet.close()
    await proxy.http.aclose()


class _RequestId:
    """Gives every request an id, told to the caller as `x-request-id` and to nobody else.

    Nothing leaves it without one, nor without being counted by its status.
    """

    def __init__(self, app: ASGIApp, counts: Counter[int]) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identifier, begun = request_id(), False
        scope.setdefault("state", {})["id"] = identifier
        field = (REQUEST_ID_FIELD.encode(), identifier.encode())

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], field]
                self._counts[message["status"]] += 1
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:  # noqa: BLE001 - a decision: what nobody foresaw may quote the request
            if begun:
                raise RuntimeError("an answer broke off") from None
            await openai_errors.internal()(scope, receive, send_with_id)


async def _client_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ClientError)  # noqa: S101 - the handler is registered for this type
    return openai_errors.response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - likewise
    reason = unserved.reason(request.url.path) if error.status_code in _NOT_SERVED else None
    return openai_errors.for_status(error.status_code, reason)


@routes.post("/v1/chat/completions")
@routes.post("/v1/completions")
@routes.post("/v1/responses")
@routes.post("/tokenize")
@routes.post("/detokenize")
@routes.post("/v1/tokenize")
@routes.post("/v1/detokenize")
async def completions(request: Request) -> Response:
    """Send a completion, or what else only a worker can answer, the private way."""
    return await _complete(request.app.state.proxy, request)


@routes.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """List the models of the verified nodes; answered here, it costs no token."""
    return {"object": "list", "data": await _models(request.app.state.proxy)}


@routes.get("/v1/models/{model:path}")
async def model(request: Request, model: str) -> Response:
    """Describe one model."""
    for entry in await _models(request.app.state.proxy):
        if entry["id"] == model:
            return JSONResponse(entry)
    return openai_errors.unknown_model()


@routes.get("/metrics")
async def counted(request: Request) -> Response:
    """Count answers by status; nothing in it comes from a request."""
    state = request.app.state
    return Response(metrics.write(state.proxy.gauges(), state.counts), media_type=metrics.TYPE)


@routes.get("/v1/attestation")
async def attestation(request: Request, node: str = "", nonce: str = "") -> Response:
    """Have a node quoted over the caller's nonce, and pass its evidence on.

    It is the caller who appraises it (`sottovoce verify node --fresh`): the proxy only pays.
    """
    if not (_HEX_32.fullmatch(node) and _HEX_32.fullmatch(nonce)):
        raise RequestRefused("`node` and `nonce` must be 64 lower-case hex digits each")
    proxy: Proxy = request.app.state.proxy
    for known in (await proxy.directory.current()).nodes:
        if known.node == node:
            return Response(
                await proxy.transport.attest(known, bytes.fromhex(nonce)), media_type=EVIDENCE
            )
    raise NoNode("no verified node has this name now")


@routes.get("/verification")
async def verification(request: Request) -> dict[str, Any]:
    """Return every verdict as JSON."""
    found: dict[str, Any] = await request.app.state.proxy.verification()
    return found


@routes.get("/verification/{request_id}")
async def passage(request: Request, request_id: str) -> dict[str, Any]:
    """Return what is known of one request's way, complete or so far."""
    known: Passage | None = request.app.state.proxy.passages.get(request_id)
    if known is None:
        raise HTTPException(httpx.codes.NOT_FOUND)
    return {"id": request_id, **known.to_json()}


@routes.get("/health")
async def health(request: Request) -> Response:
    """Say whether a completion would find a verified node and a token to pay with."""
    proxy: Proxy = request.app.state.proxy
    ready = bool((await proxy.directory.current()).nodes) and len(proxy.wallet) > 0
    return JSONResponse({"status": "ok" if ready else "starting"}, 200 if ready else 503)


async def _models(proxy: Proxy) -> list[dict[str, Any]]:
    appraisal = await proxy.directory.current()
    appraisal.require_any()
    names = sorted({node.key_document.model for node in appraisal.nodes})
    created = min((node.key_document.not_before for node in appraisal.nodes), default=0)
    return [
        {"id": name, "object": "model", "created": created, "owned_by": "sottovoce"}
        for name in names
    ]


async def _complete(proxy: Proxy, request: Request) -> Response:
    if request.headers.get("sec-fetch-site") == "cross-site":
        # A browser says so of a page somewhere, which could not read the answer but spend tokens.
        raise RequestRefused("a page of another site may not ask through this proxy")
    members = parse_body(await _read_body(request))
    model = members.get("model")
    if not isinstance(model, str):
        raise RequestRefused("the member `model` must be a string")
    if model not in {entry["id"] for entry in await _models(proxy)}:
        return openai_errors.unknown_model()
    sent = _sent(proxy, request, model, canonical_body(members))
    return await _while_there(request.receive, sent)


async def _while_there(receive: Receive, sent: Coroutine[Any, Any, Response]) -> Response:
    """Return the response to a request, or give it up as soon as its caller has hung up."""
    sending, leaving = asyncio.create_task(sent), asyncio.create_task(gone(receive))
    try:
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not sending.done():
            sending.cancel()
        await asyncio.wait((sending, leaving))
    return Response(status_code=CALLER_GONE) if sending.cancelled() else sending.result()


async def _sent(proxy: Proxy, request: Request, model: str, body: bytes) -> Response:
    path, noted = request.url.path, proxy.begin(request.state.id)
    if path.endswith("tokenize"):
        path = path.removeprefix("/v1")  # where a client with a base URL of /v1 looks for it
    answer = await proxy.transport.send(
        path.encode(),
        body,
        model=model,
        on_verdict=noted.judge,
        passage=noted,
    )
    if answer.streamed:
        # Once the first event is there, so that an early failure has a status.
        encode = typed_event if path == "/v1/responses" else sse.encode
        return EventStream(await anext(answer.payloads), answer, encode)
    content = b"".join([payload async for payload in answer.payloads])
    if answer.status == httpx.codes.UNAUTHORIZED:
        # The worker refused our token; the caller's API key has nothing to do with it.
        return openai_errors.token_refused()
    if answer.status >= httpx.codes.BAD_REQUEST:
        return openai_errors.of_answer(content, answer.status)
    return Response(content, answer.status, media_type="application/json")


async def _read_body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(httpx.codes.REQUEST_ENTITY_TOO_LARGE)
    return body


def serve(config: ProxyConfig) -> None:
    """Run the proxy until SIGTERM or SIGINT.

    Raises:
        WalletDamaged: the wallet's file cannot be read.
        PortTaken: another process listens at the address.
        NoNode: the log can list simulated nodes only, and the policy accepts none.
    """
    if refuses_simulated(config.trust, config.policy):
        raise simulated_refused()
    TokenFile(config.wallet_path).load()  # a server that has begun to start could not say it
    listener = _listen(config.host, config.port)
    options = uvicorn.Config(
        build_app(config),
        loop="asyncio",
        http=CallerConnection,
        access_log=False,
        server_header=False,
        date_header=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(options).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortTaken(f"another process listens at {host} port {port}") from None
