"""The launcher: starts a worker's processes so that nothing of a request can stay or leak.

It runs under an allocator that overwrites what is freed (or refuses to), forks every role before
anything large is imported or any thread exists, and gives each the sockets it needs and nothing
else:

    launcher -- keeper, front, zygote        control, a packet socket each
    front    -- launcher                     nonces for fresh quotes, a stream socket
    zygote   -- front, keeper, engine        where a capsule's other ends are passed on
    front    -- keeper                       whether a request is authentic
    engine   -> launcher                     its ready line, a pipe
    zygote   -- door                         with a direct port: its capsules' other ends

The direct port is bound here, before anything is forked, and accepted from by the door, which does
nothing else: the launcher itself may wait for the log for seconds.

Then it brings the worker into the log, and keeps it there with ever new keys (`server.life`). A
worker is one thing: if any role dies, all of it ends, and whoever supervises it starts it anew with
fresh keys.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from server import sandbox
from server.allocator import ensure_scrubbing
from server.config import WorkerConfig
from server.engine_ready import EngineReadyLine
from server.errors import PeerGone, StartError
from server.hardening import ensure_single_thread, harden
from server.loading import loading_told
from server.logs import (
    EngineReady,
    Role,
    WorkerStarting,
    WorkerStopping,
    emit,
    failure,
)
from server.roles import RoleDied, Roles
from server.sandbox import Confinement
from server.sockets import packet_pair, stream_pair

if TYPE_CHECKING:
    from attestation.attester.base import Attester, Gpus
    from server.zygote import ApplicationFactory

# What a role needs it imports itself, after the fork: the keeper's process has no HTTP in it, the
# front's no tokenizer, and only the engine's has torch. Hence the imports inside functions below.
# ruff: noqa: PLC0415


BACKLOG = 128
"""Connections to the direct port that the kernel keeps for the door."""

DEATH_S = 5.0
"""How long after its socket the process of a role may take to end."""


class Stopped(BaseException):
    """SIGTERM or SIGINT came. Not an Exception: nothing on the way may take it for an error."""


@dataclass(frozen=True)
class Parts:
    """What a worker is put together from; tests put in parts of their own.

    Each is called after the fork, in the role it belongs to. `engine` serves on its control socket
    and writes its ready line to the second descriptor; `application` returns the factory; `gpus`
    the accelerators that have evidence to show, if there are any.
    """

    engine: Callable[[int, WorkerConfig, int], None]
    application: Callable[[], ApplicationFactory]
    attester: Callable[[WorkerConfig], Attester]
    gpus: Callable[[WorkerConfig], Gpus | None]
    confinement: Callable[[WorkerConfig], Confinement | None] = sandbox.engine
    """The engine's, which it is under before anything of it is imported."""


def _engine(control: int, config: WorkerConfig, ready: int) -> None:
    if config.upstream is not None:
        from server import upstream

        upstream.run(control, config, config.upstream, ready)
        return
    from engine import process

    process.run(control, config.engine, ready, loading_told())


def _application() -> ApplicationFactory:
    from server.openai.application import Application

    return Application


def _attester(config: WorkerConfig) -> Attester:
    from server import registration

    return registration.attester(config)


def _gpus(config: WorkerConfig) -> Gpus | None:
    from server import registration

    return registration.gpus(config)


PARTS = Parts(_engine, _application, _attester, _gpus)
"""The real ones."""


def run(config: WorkerConfig, parts: Parts = PARTS) -> None:
    """Run a worker until SIGTERM or SIGINT. Starts the calling command anew if it must.

    Raises:
        HygieneError: memory or process cannot be protected as promised; nothing was started.
        SystemExit: a role died, or the worker could not be started; status 1.
    """
    ensure_scrubbing()
    ensure_single_thread()
    harden()
    emit(WorkerStarting(os.getpid()))
    roles = Roles()
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        ends = fork_roles(config, parts, roles)
        try:
            _serve(config, parts, roles, ends)
        except PeerGone:
            roles.wait(DEATH_S)  # a socket ended because its role did: that is what is told
            raise
    except Stopped:
        emit(WorkerStopping())
    except RoleDied:
        raise SystemExit(1) from None
    except (PeerGone, StartError) as error:
        emit(failure(Role.LAUNCHER, error))
        raise SystemExit(1) from None
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        roles.stop()


def run_rank(config: WorkerConfig, _parts: Parts = PARTS) -> None:
    """Be a rank that `torchrun` started, other than the first: a part of the engine and no more.

    Raises:
        HygieneError: memory or process cannot be protected as promised.
        SystemExit: the part could not be loaded, or another rank is gone; status 1.
    """
    ensure_scrubbing()
    ensure_single_thread()
    harden()
    from engine.errors import EngineError, RankLost
    from engine.parallel import launch
    from engine.parallel.torchrun import Torchrun

    try:
        place = Torchrun.find(os.environ)
        if place is not None:
            launch.run_rank(config.engine, place)
    except (EngineError, RankLost) as error:
        emit(failure(Role.ENGINE, error))
        raise SystemExit(1) from None


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Stopped


@dataclass(frozen=True)
class Ends:
    """What the launcher keeps of the plumbing."""

    keeper: socket.socket
    front: socket.socket
    zygote: socket.socket
    quotes: socket.socket
    ready: int


def fork_roles(config: WorkerConfig, parts: Parts, roles: Roles) -> Ends:
    """Fork every role with its own ends of the plumbing; keep the launcher's."""
    keeper, to_keeper = packet_pair()
    front, to_front = packet_pair()
    zygote, to_zygote = packet_pair()
    keeper_in, keeper_out = packet_pair()
    front_in, front_out = packet_pair()
    checks, to_checks = packet_pair()
    engine_in, engine_out = packet_pair()
    quotes, to_quotes = stream_pair()
    door_in, door_out = packet_pair()
    listener = _listen(config)
    ready, ready_out = os.pipe()

    def be_keeper() -> None:
        from server import keeper
        from server.keeper_rehearsal import rehearse

        rehearse()
        sandbox.confine(Role.KEEPER, sandbox.KEEPER)
        keeper.run(to_keeper, to_checks, keeper_in)

    def be_front() -> None:
        from server import front

        sandbox.confine(Role.FRONT, sandbox.front(config))
        front.run(config, to_front, front_in, checks, to_quotes)

    def be_zygote() -> None:
        from server import zygote

        zygote.run(
            zygote.ZygoteSockets(to_zygote, front_out, keeper_out, engine_out, door_out),
            parts.application(),
            platform=config.platform,
            issuer_name=config.issuer_name,
            max_logprobs=config.engine.max_logprobs,
            pool=config.pool,
            event_tick_s=config.event_tick_ms / 1000,
            direct=config.direct,
        )

    def be_door() -> None:
        from server import door

        if config.direct is not None and listener is not None:
            sandbox.confine(Role.DOOR, sandbox.DOOR)
            door.run(listener, door_in, config.direct)

    def be_engine() -> None:
        sandbox.confine(Role.ENGINE, parts.confinement(config))
        parts.engine(engine_in.fileno(), config, ready_out)

    theirs = (to_keeper, keeper_in, to_front, front_in, to_zygote, checks, to_checks, to_quotes)
    shared = (front_out, keeper_out, engine_out, engine_in, door_in, door_out)
    roles.fork(Role.KEEPER, be_keeper, *_numbers(to_keeper, to_checks, keeper_in))
    roles.fork(Role.FRONT, be_front, *_numbers(to_front, front_in, checks, to_quotes))
    passed_on = (front_out, keeper_out, engine_out, *([door_out] if listener else []))
    roles.fork(Role.ZYGOTE, be_zygote, *_numbers(to_zygote, *passed_on))
    if listener is not None:
        roles.fork(Role.DOOR, be_door, *_numbers(listener, door_in))
        listener.close()
    roles.fork(Role.ENGINE, be_engine, *_numbers(engine_in), ready_out)
    roles.all_forked()
    for sock in (*theirs, *shared):
        sock.close()
    os.close(ready_out)
    return Ends(keeper, front, zygote, quotes, ready)


def _listen(config: WorkerConfig) -> socket.socket | None:
    """Bind the direct port, if there is to be one.

    Raises:
        StartError: it is taken.
    """
    if config.direct is None:
        return None
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    address = (config.host, config.direct.port)
    try:
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise StartError("the direct port cannot be bound") from error


def _numbers(*sockets: socket.socket) -> tuple[int, ...]:
    return tuple(sock.fileno() for sock in sockets)


def _serve(config: WorkerConfig, parts: Parts, roles: Roles, ends: Ends) -> NoReturn:
    from engine.types import SUSPECT
    from server.life import Controls, Life
    from server.quotes import answer_order

    # Both before the engine has taken its minutes to load.
    attester, gpus = parts.attester(config), parts.gpus(config)
    engine = EngineReadyLine.parse(_ready_line(config, roles, ends.ready))
    emit(EngineReady(engine.max_model_len, engine.max_sequences))
    life = Life(
        config,
        engine,
        attester,
        gpus,
        Controls(ends.keeper, ends.front, ends.zygote),
        wait=roles.wait,
        before_opening=roles.hush,
    )
    life.begin()
    listening = [ends.quotes.fileno(), ends.ready]
    while True:
        roles.wait(life.turn(), *listening)
        answer_order(ends.quotes, life.quote)
        with contextlib.suppress(BlockingIOError):
            if os.read(ends.ready, len(SUSPECT)):
                life.suspect()
            elif ends.ready in listening:
                listening.remove(ends.ready)  # this engine has nothing more to say


def _ready_line(config: WorkerConfig, roles: Roles, ready: int) -> bytes:
    line = b""
    deadline = time.monotonic() + config.start_timeout_s
    os.set_blocking(ready, False)
    while not line.endswith(b"\n"):
        if time.monotonic() > deadline:
            raise StartError("the engine did not become ready in time")
        roles.wait(deadline - time.monotonic(), ready)
        with contextlib.suppress(BlockingIOError):
            line += os.read(ready, 65536)
    return line
