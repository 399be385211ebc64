"""The zygote: a warm process without keys or requests, from which every capsule is forked.

It imports what a request will need, loads tokenizer and templates, freezes the heap, and keeps a
few capsules forked and waiting. Each has three sockets of its own, to the front, the keeper and
the engine; the zygote passes on the other ends and keeps none. It never sees a request: a capsule
reads its own from the front. Capsules of the direct port have the door in the front's place.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from engine.slot import SlotGeometry
from server import capsule, direct_capsule
from server.capsule import Application, Connections, Surroundings
from server.config import DirectPort
from server.connections import FrontConnection, KeeperConnection, WatchedEngine
from server.control import (
    CAPSULE,
    CAPSULE_NUMBER,
    DIRECT_CAPSULE,
    DROP_IDLE,
    READY,
    BundlePiece,
    DirectMessage,
    ModelMessage,
    decode_for_zygote,
)
from server.direct_capsule import DirectNode
from server.errors import ClientGone, PeerGone, StartError
from server.hardening import die_with, harden
from server.logs import CapsuleCrashed, emit
from server.openai.application import ServedModel
from server.rehearsal import rehearse, touch
from server.sandbox import confine_capsule
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
    door: socket.socket | None = None


@dataclass
class _Pool:
    """The idle capsules of one way in."""

    size: int
    taker: socket.socket
    """Front or door: gets the capsules, and says which it took."""
    label: bytes
    """What the keeper is told that they are."""
    idle: dict[int, int] = field(default_factory=dict)
    """A capsule's number and its process."""

    def drop(self) -> None:
        """Have those that wait closed: they know what is out of date."""
        self.idle.clear()
        send_packet(self.taker, DROP_IDLE)


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
        direct: DirectPort | None = None,
    ) -> None:
        self._sockets = sockets
        self._factory = factory
        self._platform = platform
        self._issuer = AcceptedIssuer(issuer_name, ())
        self._max_logprobs = max_logprobs
        self._pool = _Pool(pool, sockets.front, CAPSULE)
        self._direct_pool: _Pool | None = None
        if direct is not None and sockets.door is not None:
            self._direct_pool = _Pool(direct.pool, sockets.door, DIRECT_CAPSULE)
        self._direct_port = direct
        self._direct: DirectNode | None = None
        self._bundle = bytearray()
        self._event_tick_s = event_tick_s
        self._surroundings: Surroundings | None = None
        self._geometry = SlotGeometry(0, 0)
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
        for pool in self._pools:
            register(pool.taker, selectors.EVENT_READ, partial(self._on_taken, pool))
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
        elif isinstance(message, BundlePiece):
            self._bundle += message.data
        elif isinstance(message, DirectMessage):
            self._show(message)
        else:
            self._change_issuer(AcceptedIssuer(self._issuer.name, message))

    def _change_issuer(self, issuer: AcceptedIssuer) -> None:
        self._issuer = issuer
        if self._surroundings is not None:
            self._surroundings = replace(self._surroundings, issuer=issuer)
            self._pool.drop()

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

    @property
    def _pools(self) -> list[_Pool]:
        return [pool for pool in (self._pool, self._direct_pool) if pool is not None]

    def _show(self, message: DirectMessage) -> None:
        """Fork capsules for the direct port that know this generation, from now on."""
        if self._direct_port is None or self._direct_pool is None:
            raise StartError("a generation for a port that is not there")
        bundle, self._bundle = bytes(self._bundle), bytearray()
        self._direct = DirectNode.of(message, bundle, self._direct_port)
        direct_capsule.rehearse(self._direct)
        self._direct_pool.drop()

    def _on_taken(self, pool: _Pool) -> None:
        packet, _ = receive_packet(pool.taker)
        pool.idle.pop(CAPSULE_NUMBER.unpack(packet)[0], None)
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
            idle = any(pid in pool.idle.values() for pool in self._pools)
            for pool in self._pools:
                pool.idle = {number: other for number, other in pool.idle.items() if other != pid}
            if code := os.waitstatus_to_exitcode(status):
                emit(CapsuleCrashed(code))
                self._stillborn += idle
            if self._stillborn >= MAX_STILLBORN:
                raise StartError("capsules crash before they are used")

    def _fill(self) -> None:
        surroundings = self._surroundings
        while surroundings is not None and len(self._pool.idle) < self._pool.size:
            self._fork(self._pool, partial(_prepare, surroundings, self._geometry))
        pool, direct = self._direct_pool, self._direct
        while surroundings and pool and direct and len(pool.idle) < pool.size:
            self._fork(pool, partial(_prepare_direct, surroundings, self._geometry, direct))

    def _fork(self, pool: _Pool, prepare: Prepare) -> None:
        front, to_front = packet_pair() if pool.label == DIRECT_CAPSULE else stream_pair()
        keeper, to_keeper = packet_pair()
        engine, to_engine = packet_pair()
        ours, theirs = (front, keeper, engine), (to_front, to_keeper, to_engine)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_capsule(parent, ours, prepare)
        self._numbers += 1
        pool.idle[self._numbers] = pid
        send_packet(self._sockets.keeper, pool.label, to_keeper)
        send_packet(self._sockets.engine, b"\0", to_engine)
        send_packet(pool.taker, CAPSULE_NUMBER.pack(self._numbers), to_front)
        for sock in (*ours, *theirs):
            sock.close()


_CapsuleSockets = tuple[socket.socket, socket.socket, socket.socket]
"""A capsule's ends: to the front or the door, the keeper, and the engine."""


Prepare = Callable[[_CapsuleSockets], Callable[[], None]]
"""Takes a capsule's ends while it may still ask the kernel about them; returns what serves."""


def _be_capsule(parent: int, sockets: _CapsuleSockets, prepare: Prepare) -> None:
    """Be a capsule; does not return. Standard error goes first: native code may panic into it."""
    status = FAILED
    try:
        detach_standard_streams(0, 1, 2)
        die_with(parent)
        harden()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        close_all_but(sock.fileno() for sock in sockets)
        serve = prepare(sockets)
        confine_capsule()
        serve()
        status = 0
    except ClientGone:
        status = 0
    finally:
        os._exit(status)  # no handler, no flush, no traceback: nothing of the request is told


def _prepare(
    surroundings: Surroundings, geometry: SlotGeometry, sockets: _CapsuleSockets
) -> Callable[[], None]:
    front, keeper, engine = sockets
    connections = Connections(
        FrontConnection(front),
        KeeperConnection(keeper),
        WatchedEngine(engine, geometry, front),
    )

    def serve() -> None:
        touch(surroundings.issuer, surroundings.application, geometry)
        capsule.serve(connections, surroundings)

    return serve


def _prepare_direct(
    surroundings: Surroundings,
    geometry: SlotGeometry,
    node: DirectNode,
    sockets: _CapsuleSockets,
) -> Callable[[], None]:
    door, keeper, engine = sockets
    ends = direct_capsule.Ends(
        door, KeeperConnection(keeper), WatchedEngine(engine, geometry, door)
    )

    def serve() -> None:
        touch(surroundings.issuer, surroundings.application, geometry)
        direct_capsule.rehearse(node)
        direct_capsule.serve(ends, surroundings, node)

    return serve


def run(
    sockets: ZygoteSockets,
    factory: ApplicationFactory,
    *,
    platform: str,
    issuer_name: str,
    max_logprobs: int,
    pool: int,
    event_tick_s: float,
    direct: DirectPort | None = None,
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
        direct=direct,
    ).serve()
