"""The door: owns the direct port, and hands each connection to a capsule of its own.

It reads and writes nothing on a connection, has no key, and keeps no address: TLS ends in the
capsule. What it owns is how many there may be:

    idle     capsules that wait for a connection, from the zygote
    in use   at most `max_capsules`, each with one connection; a place is free when it has ended
    waiting  connections that no capsule is free for: so many and so long, then they are closed
    serving  capsules whose client has shown an API key and was admitted, at most `max_requests`

Before TLS nothing can be said to a client: whoever has waited in vain is closed without a word.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from server.config import DirectPort
from server.control import ADMIT, ADMITTED, BUSY, CAPSULE_NUMBER, CONNECTION, DROP_IDLE
from server.errors import PeerGone, ProtocolError
from server.sockets import peer_closed, receive_packet, send_packet

WAIT_S = 10.0
"""How long a connection waits for a capsule: as long as a silent one may hold it."""

MAX_WAITING = 64


@dataclass
class Waiting:
    """A connection that no capsule was free for yet."""

    connection: socket.socket
    until: float


@dataclass
class Door:
    """The door's loop: one thread."""

    listener: socket.socket
    zygote: socket.socket
    port: DirectPort
    clock: Callable[[], float] = time.monotonic
    _idle: deque[tuple[int, socket.socket]] = field(default_factory=deque)
    _in_use: dict[socket.socket, bool] = field(default_factory=dict)
    """Each capsule in use, and whether it was admitted."""
    _waiting: deque[Waiting] = field(default_factory=deque)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _listening: bool = False

    def serve(self) -> None:
        """Hand out connections until the zygote's socket ends."""
        self.listener.setblocking(False)
        self.zygote.setblocking(False)
        self._selector.register(self.zygote, selectors.EVENT_READ, self._on_zygote)
        try:
            while True:
                self._listen_if_room()
                for key, _ in self._selector.select(self._next_end()):
                    key.data()
                self._hand_out()
                self._close_late()
        except PeerGone:
            return

    def _listen_if_room(self) -> None:
        room = len(self._waiting) < MAX_WAITING
        if room and not self._listening:
            self._selector.register(self.listener, selectors.EVENT_READ, self._on_connection)
        elif self._listening and not room:
            self._selector.unregister(self.listener)
        self._listening = room

    def _next_end(self) -> float | None:
        return max(0.0, self._waiting[0].until - self.clock()) if self._waiting else None

    def _on_connection(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return  # it has gone again
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._waiting.append(Waiting(connection, self.clock() + WAIT_S))

    def _on_zygote(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, sockets = receive_packet(self.zygote, sockets=1)
                if packet == DROP_IDLE:
                    self._drop_idle()
                else:
                    sockets[0].setblocking(False)
                    self._idle.append((CAPSULE_NUMBER.unpack(packet)[0], sockets[0]))

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.popleft()[1].close()

    def _hand_out(self) -> None:
        while self._waiting and self._idle and len(self._in_use) < self.port.max_capsules:
            number, capsule = self._idle.popleft()
            if peer_closed(capsule):
                capsule.close()
            else:
                self._give(self._waiting.popleft().connection, capsule)
            send_packet(self.zygote, CAPSULE_NUMBER.pack(number))

    def _give(self, connection: socket.socket, capsule: socket.socket) -> None:
        try:
            send_packet(capsule, CONNECTION, connection)
        except PeerGone:
            capsule.close()  # the connection goes with it
        else:
            self._in_use[capsule] = False
            self._selector.register(
                capsule, selectors.EVENT_READ, partial(self._on_capsule, capsule)
            )
        connection.close()

    def _close_late(self) -> None:
        while self._waiting and self._waiting[0].until <= self.clock():
            self._waiting.popleft().connection.close()

    def _on_capsule(self, capsule: socket.socket) -> None:
        # A capsule reads what strangers send: what it does wrong costs it its place.
        try:
            packet, _ = receive_packet(capsule)
            send_packet(capsule, self._answer(capsule, packet))
        except (PeerGone, ProtocolError, BlockingIOError):
            self._selector.unregister(capsule)
            del self._in_use[capsule]
            capsule.close()

    def _answer(self, capsule: socket.socket, packet: bytes) -> bytes:
        if packet != ADMIT or self._in_use[capsule]:
            raise ProtocolError("a capsule asks to be admitted, and nothing else")
        self._in_use[capsule] = sum(self._in_use.values()) < self.port.max_requests
        return ADMITTED if self._in_use[capsule] else BUSY


def run(listener: socket.socket, zygote: socket.socket, port: DirectPort) -> None:
    """Be the door, until the zygote's socket ends."""
    Door(listener, zygote, port).serve()
