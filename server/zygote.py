"""The zygote: a warm process without keys or requests, from which every capsule is forked.

It imports what a request will need, loads tokenizer and templates, freezes the heap, and keeps a
few capsules forked and waiting. Each has three sockets of its own, to the front, the keeper and
the engine; the zygote passes on the other ends and keeps none. It never sees a request: a capsule
reads its own from the front.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.slot import SlotGeometry
from server import capsule
from server.capsule import Application, Connections, Surroundings
from server.connections import FrontConnection, KeeperConnection, WatchedEngine
from server.control import CAPSULE_NUMBER, DROP_IDLE, READY, ModelMessage, decode_for_zygote
from server.errors import ClientGone, PeerGone, StartError
from server.hardening import die_with, harden
from server.logs import CapsuleCrashed, emit
from server.openai.application import ServedModel
from server.rehearsal import rehearse, touch
from server.sandbox import confine
from server.sockets import (
    close_all_but,
    detach_standard_streams,
    packet_pair,
    receive_packet,
    send_packet,
    stream_pair,
)
from server.tokens import AcceptedIssuer

MAX_STILLBORN = 8
"""Idle capsules that may crash in a row: if none can live, neither can the worker."""

FAILED = 70
"""Exit status of a capsule that failed (EX_SOFTWARE)."""

ApplicationFactory = Callable[[ServedModel], Application]


@dataclass(frozen=True)
class ZygoteSockets:
    """The zygote's ends."""

    launcher: socket.socket
    front: socket.socket
    keeper: socket.socket
    engine: socket.socket


class Zygote:
    """The zygote's loop. Forks: it must be, and stays, the only thread of its process."""

    def __init__(
        self,
        sockets: ZygoteSockets,
        factory: ApplicationFactory,
        *,
        platform: str,
        issuer_name: str,
        max_logprobs: int,
        pool: int,
        event_tick_s: float = 0.0,
    ) -> None:
        self._sockets = sockets
        self._factory = factory
        self._platform = platform
        self._issuer = AcceptedIssuer(issuer_name, ())
        self._max_logprobs = max_logprobs
        self._pool = pool
        self._event_tick_s = event_tick_s
        self._surroundings: Surroundings | None = None
        self._geometry = SlotGeometry(0, 0)
        self._idle: dict[int, int] = {}  # a capsule's number -> its process
        self._numbers = 0
        self._stillborn = 0
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Fork capsules until the launcher's or the front's socket ends."""
        woken, waker = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        register = self._selector.register
        register(self._sockets.launcher, selectors.EVENT_READ, self._on_launcher)
        register(self._sockets.front, selectors.EVENT_READ, self._on_front)
        register(woken, selectors.EVENT_READ, lambda: self._on_child(woken))
        try:
            while True:
                for key, _ in self._selector.select():
                    key.data()
                self._fill()
        except PeerGone:
            return

    def _on_launcher(self) -> None:
        packet, _ = receive_packet(self._sockets.launcher)
        message = decode_for_zygote(packet)
        if isinstance(message, ModelMessage):
            self._warm_up(message)
        else:
            self._change_issuer(AcceptedIssuer(self._issuer.name, message))

    def _change_issuer(self, issuer: AcceptedIssuer) -> None:
        self._issuer = issuer
        if self._surroundings is not None:
            self._surroundings = replace(self._surroundings, issuer=issuer)
            self._idle.clear()  # those that wait know the old keys; the front lets them go
            send_packet(self._sockets.front, DROP_IDLE)

    def _warm_up(self, model: ModelMessage) -> None:
        application = self._factory(ServedModel(**vars(model)))
        self._surroundings = Surroundings(
            application, self._issuer, self._platform, event_tick_s=self._event_tick_s
        )
        self._geometry = SlotGeometry(model.max_model_len, model.vocab_size, self._max_logprobs)
        rehearse(self._issuer, application, self._geometry)
        gc.collect()
        gc.freeze()  # a collection in a capsule shall not copy the zygote's pages
        self._fill()
        send_packet(self._sockets.launcher, READY)

    def _on_front(self) -> None:
        packet, _ = receive_packet(self._sockets.front)
        self._idle.pop(CAPSULE_NUMBER.unpack(packet)[0], None)
        self._stillborn = 0

    def _on_child(self, woken: int) -> None:
        os.read(woken, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            idle = pid in self._idle.values()
            self._idle = {number: other for number, other in self._idle.items() if other != pid}
            if code := os.waitstatus_to_exitcode(status):
                emit(CapsuleCrashed(code))
                self._stillborn += idle
            if self._stillborn >= MAX_STILLBORN:
                raise StartError("capsules crash before they are used")

    def _fill(self) -> None:
        while self._surroundings is not None and len(self._idle) < self._pool:
            self._fork(self._surroundings)

    def _fork(self, surroundings: Surroundings) -> None:
        front, to_front = stream_pair()
        keeper, to_keeper = packet_pair()
        engine, to_engine = packet_pair()
        ours, theirs = (front, keeper, engine), (to_front, to_keeper, to_engine)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_capsule(parent, ours, surroundings, self._geometry)
        self._numbers += 1
        self._idle[self._numbers] = pid
        send_packet(self._sockets.keeper, b"capsule", to_keeper)
        send_packet(self._sockets.engine, b"\0", to_engine)
        send_packet(self._sockets.front, CAPSULE_NUMBER.pack(self._numbers), to_front)
        for sock in (*ours, *theirs):
            sock.close()


def _be_capsule(
    parent: int,
    sockets: tuple[socket.socket, socket.socket, socket.socket],
    surroundings: Surroundings,
    geometry: SlotGeometry,
) -> None:
    """Be a capsule; does not return. Standard error goes first: native code may panic into it."""
    status = FAILED
    try:
        detach_standard_streams(0, 1, 2)
        die_with(parent)
        harden()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        front, keeper, engine = sockets
        close_all_but(sock.fileno() for sock in sockets)
        connections = Connections(
            FrontConnection(front),
            KeeperConnection(keeper),
            WatchedEngine(engine, geometry, front),
        )
        confine()
        touch(surroundings.issuer, surroundings.application, geometry)
        capsule.serve(connections, surroundings)
        status = 0
    except ClientGone:
        status = 0
    finally:
        os._exit(status)  # no handler, no flush, no traceback: nothing of the request is told


def run(
    sockets: ZygoteSockets,
    factory: ApplicationFactory,
    *,
    platform: str,
    issuer_name: str,
    max_logprobs: int,
    pool: int,
    event_tick_s: float,
) -> None:
    """Be the zygote, until the launcher's socket ends."""
    Zygote(
        sockets,
        factory,
        platform=platform,
        issuer_name=issuer_name,
        max_logprobs=max_logprobs,
        pool=pool,
        event_tick_s=event_tick_s,
    ).serve()
