"""The engine process: sockets in, steps between, nothing else.

The launcher starts it with one control socket (AF_UNIX, SOCK_SEQPACKET). Each packet on it carries
the engine's end of one capsule's slot socket; its end is the end of the process. What crosses slot
sockets is said in `engine.connection`. The process sleeps when no sequence can run, and polls its
sockets between steps when one can.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import socket
from dataclasses import dataclass, field

import torch
import transformers

from engine.build import build
from engine.config import EngineConfig
from engine.connection import MAX_SLOTS
from engine.errors import InvalidRequest
from engine.loader import LoadedModel, Progress, load
from engine.parallel.launch import Torchrun, joined, of_rank
from engine.policy import engine_policy
from engine.slot import Slot, SlotGeometry


def run(
    control_socket_fd: int,
    config: EngineConfig,
    ready_fd: int,
    progress: Progress | None = None,
) -> None:
    """Load the model, say what is served on `ready_fd`, and serve until the control socket ends.

    The one line on `ready_fd` is a JSON object: model_digest (hex), max_model_len, vocab_size,
    max_logprobs, max_sequences, policy (the canonical engine policy as text). `progress` is told
    how many per cent of the model are loaded.

    Raises:
        ModelRefused: the model is not served; nothing was written to `ready_fd`.
        RankLost: a process of a parallel engine ended; the engine ends with it.
    """
    # The loader's progress bars and hints are nobody's log events.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = of_rank(config, 0) if config.ranks > 1 else config
    with joined(config, Torchrun.find(os.environ)) as group:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        control = socket.socket(fileno=control_socket_fd)
        loaded = load(config, progress, group)
        server = EngineServer(control, config, loaded)
        gc.collect()
        gc.freeze()
        os.write(ready_fd, ready_line(config, server.geometry, loaded.digest))
        os.close(ready_fd)
        server.serve()


def ready_line(config: EngineConfig, geometry: SlotGeometry, digest: bytes) -> bytes:
    """Return what `run` says once it can serve."""
    ready = {
        "model_digest": digest.hex(),
        "max_model_len": geometry.max_model_len,
        "vocab_size": geometry.vocab_size,
        "max_logprobs": geometry.max_logprobs,
        "max_sequences": config.max_sequences,
        "policy": engine_policy(config).decode(),
    }
    return json.dumps(ready).encode() + b"\n"


@dataclass(eq=False)
class _Capsule:
    """The engine's end of one slot socket."""

    socket: socket.socket
    slots: set[int] = field(default_factory=set)
    unsent: set[int] = field(default_factory=set)
    """Slots whose capsule is still to be told."""


class EngineServer:
    """Moves wake-ups between sockets and one engine."""

    def __init__(self, control: socket.socket, config: EngineConfig, loaded: LoadedModel) -> None:
        self._engine, self.geometry = build(config, loaded, self._changed)
        self._selector = selectors.DefaultSelector()
        self._control = control
        control.setblocking(False)
        self._selector.register(control, selectors.EVENT_READ)
        self._capsules: dict[int, _Capsule] = {}
        self._changes: set[_Capsule] = set()
        self._serving = True

    def serve(self) -> None:
        """Serve until the control socket ends; then every slot is erased."""
        worked = False
        while self._serving:
            for key, _ in self._selector.select(0 if worked else None):
                self._event(key.fd)
            worked = self._engine.busy and self._engine.step()
            while self._changes:
                self._tell(self._changes.pop())
        for capsule in list(self._capsules.values()):
            self._leave(capsule)
        self._selector.close()

    def _event(self, fd: int) -> None:
        if fd == self._control.fileno():
            self._accept()
            return
        capsule = self._capsules[fd]
        self._hear(capsule)
        if fd in self._capsules:
            self._tell(capsule)

    def _changed(self, key: tuple[_Capsule, int]) -> None:
        capsule, index = key
        capsule.unsent.add(index)
        self._changes.add(capsule)

    def _accept(self) -> None:
        """Take new slot sockets from the control socket, or see it end."""
        while (packet := _receive(self._control)) is not None:
            data, fds = packet
            for fd in fds:
                capsule = _Capsule(socket.socket(fileno=fd))
                capsule.socket.setblocking(False)
                self._capsules[fd] = capsule
                self._selector.register(fd, selectors.EVENT_READ)
            if not data:
                self._serving = False
                return

    def _hear(self, capsule: _Capsule) -> None:
        """Read a capsule's packets: register slots, look at slots, or see it go."""
        while (packet := _receive(capsule.socket)) is not None:
            data, fds = packet
            if not data or not self._packet(capsule, data[0], fds):
                self._leave(capsule)
                return

    def _packet(self, capsule: _Capsule, index: int, fds: list[int]) -> bool:
        """Handle one packet; False if the capsule breaks the protocol."""
        new = index not in capsule.slots
        if index >= MAX_SLOTS or new != bool(fds):
            for fd in fds:
                os.close(fd)
            return False
        if new:
            try:
                slot = Slot.attach(fds[0], self.geometry)
            except InvalidRequest:
                return False
            capsule.slots.add(index)
            self._engine.register((capsule, index), slot)
        self._engine.look((capsule, index), capsule)
        return True

    def _leave(self, capsule: _Capsule) -> None:
        """End all slots of a capsule that is gone, or that broke the protocol."""
        for index in capsule.slots:
            self._engine.drop((capsule, index))
        fd = capsule.socket.fileno()
        self._selector.unregister(fd)
        del self._capsules[fd]
        self._changes.discard(capsule)
        capsule.socket.close()

    def _tell(self, capsule: _Capsule) -> None:
        """Send wake-ups; what finds no room is sent when the capsule has read some."""
        # A capsule that has gone is noticed when its socket is read.
        with contextlib.suppress(BlockingIOError, ConnectionError):
            for index in sorted(capsule.unsent):
                capsule.socket.send(bytes((index,)))
                capsule.unsent.discard(index)
        events = selectors.EVENT_READ
        if capsule.unsent:
            events |= selectors.EVENT_WRITE
        self._selector.modify(capsule.socket.fileno(), events)


def _receive(sock: socket.socket) -> tuple[bytes, list[int]] | None:
    """Return one packet and its descriptors; empty bytes at the end; None if there is none now."""
    try:
        data, fds, _, _ = socket.recv_fds(sock, 1, 1)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b"", []
    return data, fds
