"""The baseline: the same application on the same engine, over plain HTTP, in the clear.

It is put in the engine's place of a worker (`server.launcher.Parts`), so that both ways in use one
engine process, one copy of the weights and one allocator:

    zygote ── capsules' sockets ──> face ── the same sockets, and its own ──> engine

Beside forwarding, it serves `POST /v1/chat/completions` by itself: a thread a request runs the very
plan that a capsule would run. No relay, no encryption, no token, no capsule, no padding, no
receipt. For benchmarks only: it is everything that the server is not.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, Router

from client import sse
from engine import process
from engine.connection import EngineConnection
from engine.slot import SlotGeometry
from server.config import WorkerConfig
from server.errors import PeerGone
from server.hardening import die_with
from server.openai.application import Application, ServedModel
from server.openai.errors import ApiError, error_body
from server.openai.outputs import Body, Event, Head, Output
from server.sockets import packet_pair, receive_packet, send_packet


def engine_with_plain_face(port: int) -> Callable[[int, WorkerConfig, int], None]:
    """Return an engine part for `server.launcher.Parts` that also serves plain HTTP on `port`."""

    def serve(control: int, config: WorkerConfig, ready: int) -> None:
        ours, engines = packet_pair()
        line, to_line = os.pipe()
        parent = os.getpid()
        if os.fork() == 0:
            die_with(parent)
            engines.close()
            os.close(to_line)
            ends = _Ends(socket.socket(fileno=control), ours, line, ready)
            _be_face(ends, config, port)
            os._exit(0)
        ours.close()
        os.close(control)
        os.close(line)
        os.close(ready)
        process.run(engines.detach(), config.engine, to_line)

    return serve


@dataclass(frozen=True)
class _Ends:
    """The face's ends: where capsules' sockets come from and go to, and the engine's one line."""

    control: socket.socket
    engine: socket.socket
    line: int
    ready: int


def _be_face(ends: _Ends, config: WorkerConfig, port: int) -> None:
    with os.fdopen(ends.line, "rb") as reader:
        text = reader.readline()
    if not text:
        return
    said = json.loads(text)
    geometry = SlotGeometry(said["max_model_len"], said["vocab_size"], said["max_logprobs"])
    application = Application(
        ServedModel(
            name=config.model_name,
            folder=config.model,
            max_model_len=geometry.max_model_len,
            vocab_size=geometry.vocab_size,
            created=int(time.time()),
            token_budget=config.token_budget,
        )
    )
    threading.Thread(target=_forward, args=(ends.control, ends.engine), daemon=True).start()
    os.write(ends.ready, text)
    os.close(ends.ready)
    serve_plainly(PlainFace(application, ends.engine, geometry), port)


def _forward(control: socket.socket, engine: socket.socket) -> None:
    """Pass the capsules' sockets on. The end of the zygote is the end of everything here."""
    try:
        while True:
            packet, sockets = receive_packet(control, sockets=1)
            send_packet(engine, packet, *sockets)
            for each in sockets:
                each.close()
    except PeerGone:
        os._exit(0)


class PlainFace:
    """One application over one engine, as ASGI."""

    def __init__(
        self, application: Application, engine: socket.socket, geometry: SlotGeometry
    ) -> None:
        self._application = application
        self._engine = engine
        self._geometry = geometry

    def router(self) -> Router:
        """Return the ASGI application."""
        return Router(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/health", self._health, methods=["GET"]),
            ]
        )

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _complete(self, request: Request) -> Response:
        body = await request.body()
        loop = asyncio.get_running_loop()
        outputs: asyncio.Queue[Output | ApiError | None] = asyncio.Queue()

        def tell(output: Output | ApiError | None) -> None:
            loop.call_soon_threadsafe(outputs.put_nowait, output)

        threading.Thread(target=self._run, args=(body, tell), daemon=True).start()
        head = await outputs.get()
        if isinstance(head, ApiError):
            return Response(error_body(head), head.status, media_type="application/json")
        if not isinstance(head, Head):
            return Response(status_code=500)
        return StreamingResponse(
            _events(outputs), head.status, headers={k.decode(): v.decode() for k, v in head.headers}
        )

    def _run(self, body: bytes, tell: Callable[[Output | ApiError | None], None]) -> None:
        mine, engines = packet_pair()
        send_packet(self._engine, b"\0", engines)
        engines.close()
        connection = EngineConnection(mine, self._geometry)
        try:
            plan = self._application.prepare(b"POST", b"/v1/chat/completions", body)
            for output in plan.run(connection, lambda: secrets.randbits(64), int(time.time())):
                tell(output)
        except ApiError as error:
            tell(error)
        finally:
            connection.close()
            tell(None)


async def _events(outputs: asyncio.Queue[Output | ApiError | None]) -> AsyncIterator[bytes]:
    while (output := await outputs.get()) is not None:
        if isinstance(output, Event):
            yield sse.encode(output.payload)
        elif isinstance(output, Body):
            yield output.payload


def serve_plainly(face: PlainFace, port: int) -> None:
    """Serve until the process is ended."""
    uvicorn.run(
        face.router(),
        host="127.0.0.1",
        port=port,
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
    )
