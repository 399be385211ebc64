"""The front: HTTP in, HTTP out, ciphertext in between. It has no key and can open nothing.

It owns what all capsules of a worker share: the replay set, the count of requests being served,
and the way to the spent-token store.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from server.capsule_pool import CapsulePool
from server.config import WorkerConfig
from server.control import NodesMessage
from server.errors import PeerGone
from server.gateway import Gateway, Limits
from server.http_limits import Connection, Lingering
from server.keeper_checks import KeeperChecks
from server.metrics import CONTENT_TYPE, Metrics
from server.quotes import Quotes
from server.refunds import Refunds
from server.replay import ReplaySet
from server.sockets import receive_packet
from server.spending import SpentStore
from wire.hpke import Kem
from wire.key_config import KeyConfig, encode_list
from wire.ohttp import KEYS_TYPE


@dataclass
class Listed:
    """The generations that are served now, as the launcher told last."""

    nodes: Mapping[str, Sequence[KeyConfig]]
    suspect: bool = False

    def kem_of(self, key_id: int) -> Kem | None:
        """Return the KEM of one of our keys; None if the key id is not one of ours."""
        for configs in self.nodes.values():
            for config in configs:
                if config.key_id == key_id:
                    return config.kem
        return None

    def offered(self) -> bytes:
        """Return the newest generation as `application/ohttp-keys`; older ones are only opened.

        X25519 comes first: a client that is not ours may know that KEM alone, or take the first.
        """
        newest = list(self.nodes.values())[-1]
        return encode_list(sorted(newest, key=lambda config: config.kem))


class Front:
    """The front's state and its resources."""

    def __init__(
        self,
        config: WorkerConfig,
        launcher: socket.socket,
        zygote: socket.socket,
        keeper: socket.socket,
        quotes: socket.socket,
    ) -> None:
        self._config = config
        self._launcher = launcher
        self._listed = Listed({})
        self._metrics = Metrics()
        self._pool = CapsulePool(zygote, config.max_capsules)
        self._checks = KeeperChecks(keeper, self._pool.closed.set)
        self._store = SpentStore(config.spent_socket, timeout_s=config.spent_timeout_s)
        self._refunds = Refunds(config.issuer_url)
        self._gateway = Gateway(
            self._pool,
            ReplaySet(config.max_marks),
            self._store,
            self._metrics,
            Limits(config.max_body, config.body_timeout_s, config.max_requests),
            refunder=self._refunds,
            quoter=Quotes(quotes, most=config.max_quotes, pause_s=config.quote_pause_s),
            checker=self._checks,
            kem_of=self._listed.kem_of,
        )

    def application(self) -> Router:
        """Return the ASGI application."""
        return Router(
            routes=[
                Route("/gateway", self._gateway),
                Route("/health", self._health, methods=["GET"]),
                Route("/ohttp-keys", self._show_keys, methods=["GET"]),
                Route("/metrics", self._show_metrics, methods=["GET"]),
            ],
            redirect_slashes=False,
        )

    async def serve(self) -> None:
        """Serve until a signal, or until the launcher, the zygote or the keeper has gone."""
        config = self._config
        server = uvicorn.Server(
            uvicorn.Config(
                Lingering(self.application()),
                host=config.host,
                port=config.port,
                loop="asyncio",
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._pool.start()
        self._checks.start()
        self._launcher.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._launcher.fileno(), self._on_launcher)
        serving = asyncio.ensure_future(server.serve())
        ending = asyncio.ensure_future(self._pool.closed.wait())
        publishing = asyncio.ensure_future(
            self._metrics.publish_every(config.metrics_period_s, self._levels)
        )
        await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
        ending.cancel()
        publishing.cancel()
        await self._store.close()
        await self._refunds.close()

    def _on_launcher(self) -> None:
        try:
            packet, _ = receive_packet(self._launcher)
        except PeerGone:
            asyncio.get_running_loop().remove_reader(self._launcher.fileno())
            self._pool.closed.set()
            return
        told = NodesMessage.decode(packet)
        self._listed.nodes, self._listed.suspect = told.nodes, told.suspect

    def _levels(self) -> tuple[int, int]:
        return self._pool.in_use, self._gateway.admitted

    async def _health(self, _: Request) -> Response:
        nodes = sorted(self._listed.nodes)
        if self._listed.suspect:
            return JSONResponse({"status": "suspect", "nodes": nodes}, status_code=503)
        if not nodes:
            return JSONResponse({"status": "starting", "nodes": []}, status_code=503)
        return JSONResponse({"status": "ok", "nodes": nodes})

    async def _show_keys(self, _: Request) -> Response:
        if not self._listed.nodes:
            return Response(status_code=503, headers={"retry-after": "1"})
        headers = {"cache-control": "no-store"}
        return Response(self._listed.offered(), headers=headers, media_type=KEYS_TYPE)

    async def _show_metrics(self, _: Request) -> Response:
        return Response(self._metrics.encode(), media_type=CONTENT_TYPE.decode())


def run(
    config: WorkerConfig,
    launcher: socket.socket,
    zygote: socket.socket,
    keeper: socket.socket,
    quotes: socket.socket,
) -> None:
    """Be the front, until a signal or the end of the launcher's socket."""
    asyncio.run(_run(config, launcher, zygote, keeper, quotes))


async def _run(
    config: WorkerConfig,
    launcher: socket.socket,
    zygote: socket.socket,
    keeper: socket.socket,
    quotes: socket.socket,
) -> None:
    await Front(config, launcher, zygote, keeper, quotes).serve()
