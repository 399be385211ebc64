"""The log over HTTP: C2SP's static paths, the nodes document, and adding leaves.

    GET  /checkpoint                     the cosigned checkpoint, 404 before the first
    GET  /tile/<L>/<N>[.p/<W>]           hashes; /tile/entries/... the entries
    GET  /nodes                          the nodes document, 503 while this epoch has none
    POST /add                            CBOR {"leaf": bytes, "attachment": bytes}
    POST /alive                          CBOR {"leaf": bytes}, a listed node's sign of life
    GET  /health

`POST /add` answers {"index", "proof"} once a checkpoint with a quorum of cosignatures covers the
leaf. Errors are {"error": {"code", "message"}}: 4xx will not change, 503 will.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from transparency import signing
from transparency.admission import Admit
from transparency.body import read_body
from transparency.cosigning import Cosigner, WitnessAddress
from transparency.epochs import EpochNotes
from transparency.errors import (
    AdmissionRefused,
    BadSignature,
    LogUnavailable,
    Malformed,
    TransparencyError,
    WrongAmendment,
    WrongBundle,
    WrongRole,
)
from transparency.fields import Fields
from transparency.files import read_seed
from transparency.leaf import MAX_LEAF_LENGTH, RoleKeys
from transparency.log import Log
from transparency.note import KeyType, Signer
from transparency.policy import LogPolicy
from transparency.service import LogService
from transparency.tiles import Tile

MAX_ATTACHMENT_LENGTH = 512 << 10
"""A TDX quote with collateral is 25 KB, a GPU's report with its chain 8 KB: eight GPUs fit."""

MAX_NODES_AGE_S = 10
"""Caches ask again within this time, so that a list that replaced none is soon everywhere."""

RETRY_AFTER_S = 1

_STATUS: tuple[tuple[type[TransparencyError], int], ...] = (
    (Malformed, 400),
    (WrongRole, 403),
    (BadSignature, 403),
    (WrongBundle, 422),
    (AdmissionRefused, 422),
    (WrongAmendment, 422),
    (LogUnavailable, 503),
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogConfig:
    """One log: where it is kept, whose it is, who watches it, and what it admits.

    Attributes:
        directory: the log's own; tiles, state and attachments.
        origin: the checkpoint's first line and the name of the log's key.
        seed_file: the seed of the log's key.
        list_seed_files: seeds of the role key for node lists: the present one, and the next one
            from before its rotation is published.
        roles: the first keys that may sign each kind of leaf; the log's own leaves rotate them.
        witnesses: where each listens, and its verifier key.
        quorum: how many witnesses must cosign before a checkpoint is published.
        epoch_seconds: the length of an epoch; one node list each.
        min_nodes: the first list waits for so many nodes; also the first after a gap.
        admit: appraises a bundle at a time; raises AdmissionRefused (or any ValueError).
        max_cosignature_age_s: as the clients' policy has it.
    """

    directory: Path
    origin: str
    seed_file: Path
    list_seed_files: tuple[Path, ...]
    roles: RoleKeys
    witnesses: tuple[WitnessAddress, ...]
    quorum: int
    admit: Admit
    epoch_seconds: int = 600
    min_nodes: int = 1
    host: str = "127.0.0.1"
    port: int = 8083
    max_cosignature_age_s: int = 86400


def build_app(config: LogConfig, *, clock: Callable[[], float] = time.time) -> Starlette:
    """Build the HTTP service; the log is opened when it starts and closed when it ends."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with _open(config) as log:
            cosigner = Cosigner(config.witnesses, config.quorum)
            service = await asyncio.to_thread(_make_service, config, log, cosigner, clock)
            app.state.log, app.state.service = log, service
            writer = asyncio.create_task(service.run())
            writer.add_done_callback(_end_without_writer)
            try:
                yield
            finally:
                service.stop()
                await asyncio.wait([writer])
                await cosigner.close()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/checkpoint", _checkpoint),
            Route("/tile/{path:path}", _tile),
            Route("/nodes", _nodes),
            Route("/add", _add, methods=["POST"]),
            Route("/alive", _alive, methods=["POST"]),
            Route("/health", _health),
        ],
    )


def serve(config: LogConfig) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SystemExit: the log cannot be opened or served; uvicorn has said why.
    """
    uvicorn.run(
        build_app(config),
        host=config.host,
        port=config.port,
        loop="asyncio",
        access_log=False,
        server_header=False,
        date_header=False,
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=5,
    )


def _open(config: LogConfig) -> Log:
    seed = read_seed(config.seed_file)
    return Log(config.directory, Signer.from_seed(config.origin, KeyType.ED25519, seed))


def _make_service(
    config: LogConfig, log: Log, cosigner: Cosigner, clock: Callable[[], float]
) -> LogService:
    return LogService(
        log,
        policy=_policy(config),
        roles=config.roles,
        list_keys=[signing.private_key(read_seed(file)) for file in config.list_seed_files],
        cosigner=cosigner,
        epoch_notes=EpochNotes(config.directory / "epochs", config.epoch_seconds),
        epoch_seconds=config.epoch_seconds,
        min_nodes=config.min_nodes,
        admit=config.admit,
        clock=clock,
    )


def _policy(config: LogConfig) -> LogPolicy:
    seed = read_seed(config.seed_file)
    signer = Signer.from_seed(config.origin, KeyType.ED25519, seed)
    return LogPolicy(
        log_vkey=str(signer.verifier_key),
        witness_vkeys=tuple(witness.vkey for witness in config.witnesses),
        quorum=config.quorum,
        max_cosignature_age_s=config.max_cosignature_age_s,
    )


def _end_without_writer(writer: asyncio.Task[None]) -> None:
    """A log that cannot write must not go on answering as if it could."""
    if not writer.cancelled() and (error := writer.exception()) is not None:
        _log.critical("the log cannot write: %s", type(error).__name__, exc_info=error)
        signal.raise_signal(signal.SIGTERM)


async def _checkpoint(request: Request) -> Response:
    log: Log = request.app.state.log
    if log.published_note is None:
        return _error(404, "not_found", "there is no checkpoint yet")
    headers = {"cache-control": "max-age=1"}
    return Response(log.published_note, 200, headers, "text/plain; charset=utf-8")


async def _tile(request: Request) -> Response:
    log: Log = request.app.state.log
    try:
        tile = Tile.parse("tile/" + request.path_params["path"])
    except Malformed as error:
        return _error(404, "not_found", str(error))
    data = await run_in_threadpool(log.read_tile, tile)
    if data is None:
        return _error(404, "not_found", "the published tree has no such tile")
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(data, 200, headers, "application/octet-stream")


async def _nodes(request: Request) -> Response:
    service: LogService = request.app.state.service
    try:
        document, left = await run_in_threadpool(service.nodes)
    except LogUnavailable as error:
        return _failure(error)
    headers = {"cache-control": f"max-age={min(math.floor(left), MAX_NODES_AGE_S)}"}
    return Response(document, 200, headers, "application/json")


async def _add(request: Request) -> Response:
    service: LogService = request.app.state.service
    body = await read_body(request, MAX_LEAF_LENGTH + MAX_ATTACHMENT_LENGTH + 64)
    if body is None:
        return _error(413, "too_large", "a leaf or its attachment is too large")
    try:
        fields = Fields(body, "leaf", "attachment")
        attachment = fields.octets("attachment", maximum=MAX_ATTACHMENT_LENGTH)
        proof = await service.add(fields.octets("leaf", minimum=1), attachment)
    except TransparencyError as error:
        return _failure(error)
    return JSONResponse({"index": proof.index, "proof": proof.encode()})


async def _alive(request: Request) -> Response:
    service: LogService = request.app.state.service
    body = await read_body(request, MAX_LEAF_LENGTH)
    if body is None:
        return _error(413, "too_large", "a leaf is too large")
    try:
        await run_in_threadpool(service.alive, Fields(body, "leaf").octets("leaf", minimum=1))
    except TransparencyError as error:
        return _failure(error)
    return JSONResponse({})


async def _health(request: Request) -> Response:
    service: LogService = request.app.state.service
    sizes = {"size": service.size, "published": service.published_size}
    return JSONResponse({"status": "ok", **sizes})


def _failure(error: TransparencyError) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 400)
    return _error(status, error.code, str(error))


def _error(status: int, code: str, message: str) -> Response:
    headers = {"cache-control": "no-store"}
    if status == 503:
        headers["retry-after"] = str(RETRY_AFTER_S)
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)
