"""A capsule's three sockets, each as the few questions it may ask over it. Blocking."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from engine.connection import EngineConnection
from engine.slot import SlotGeometry
from engine.types import EngineState
from server.errors import ClientGone, ProtocolError, Rejected
from server.keeper_messages import DIGEST_LENGTH, ContextRequest, Packet, Statement
from server.messages import (
    LENGTH,
    Admission,
    Admit,
    Admitted,
    End,
    Mark,
    Marked,
    Marking,
    Message,
    Quote,
    Quoted,
    Refund,
    Refunded,
    Reject,
    Request,
    Spend,
    Spending,
    Spent,
    Start,
    decode,
    encode,
    encode_chunk,
    frame_length,
)
from server.sockets import peer_closed, receive_packet, send_packet
from wire.hpke import ContextSecrets
from wire.ohttp import Header

_M = TypeVar("_M", bound=Message)

ERASE_TIMEOUT_S = 30.0
"""How long a capsule whose client has gone waits to see its slots erased. The engine erases them
without it too, as soon as the capsule's socket ends."""

_HOLDING_NOTHING = (EngineState.EMPTY, EngineState.ERASED)


class FrontConnection:
    """The capsule's side of the front.

    Every method raises ClientGone when the client has gone, and ProtocolError for an answer out of
    turn.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._held = b""

    def request(self) -> Request:
        """Wait for the one request this capsule is for."""
        return self._receive(Request)

    def mark(self, enc: bytes, expiry: int) -> Marking:
        """Have `enc` remembered until `expiry`."""
        self._send(Mark(enc, expiry))
        return self._receive(Marked).marking

    def admit(self) -> Admission:
        """Take a place among the requests being served."""
        self._send(Admit())
        return self._receive(Admitted).admission

    def spend(self, spend_id: bytes, key_id: bytes, rows: Sequence[bytes]) -> Spending:
        """Spend all rows, or none."""
        self._send(Spend(spend_id, key_id, tuple(rows)))
        return self._receive(Spent).spending

    def quote(self, nonce: bytes) -> Quoted:
        """Have the platform quote a nonce, 32 bytes."""
        self._send(Quote(nonce))
        return self._receive(Quoted)

    def refund(self, truncated_key_id: int, messages: Sequence[bytes]) -> tuple[bytes, ...]:
        """Have one blind signature made for each message, zeros where there is none."""
        self._send(Refund(truncated_key_id, tuple(messages)))
        signatures = self._receive(Refunded).signatures
        if len(signatures) != len(messages):
            raise ProtocolError("not as many signatures as blinded messages")
        return signatures

    def start(self, *, chunked: bool) -> None:
        """Begin the answer; leaves with what is sent next, so that the front wakes once."""
        self._held = encode(Start(chunked))

    def chunk(self, data: bytes) -> None:
        """Send sealed bytes of the answer; nothing for no bytes."""
        if data:
            self._write(encode_chunk(data))

    def end(self) -> None:
        """Say that the answer is complete."""
        self._send(End())

    def reject(self, status: int) -> None:
        """Have the front answer in clear."""
        self._send(Reject(status))

    def _send(self, message: Message) -> None:
        self._write(encode(message))

    def _write(self, frame: bytes) -> None:
        if self._held:
            frame, self._held = self._held + frame, b""
        try:
            self.socket.sendall(frame)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ClientGone from error

    def _receive(self, kind: type[_M]) -> _M:
        message = decode(self._read(frame_length(self._read(LENGTH.size))))
        if not isinstance(message, kind):
            raise ProtocolError("an answer out of turn")
        return message

    def _read(self, length: int) -> bytes:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            try:
                count = self.socket.recv_into(view)
            except ConnectionResetError as error:
                raise ClientGone from error
            if not count:
                raise ClientGone
            view = view[count:]
        return bytes(data)


@dataclass(frozen=True)
class Granted:
    """What the keeper gives for one `enc`: the context, and the key document it is under."""

    key_document: bytes
    secrets: ContextSecrets


class KeeperConnection:
    """The capsule's side of the keeper. Every method raises PeerGone when it hangs up."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def context(self, header: Header, enc: bytes, *, chunked: bool) -> Granted:
        """Ask for the context of this request's `enc`.

        Raises:
            Rejected: 400 for a key or suite the node does not have, 422 for a degenerate `enc`.
        """
        packet = self._ask(ContextRequest(chunked, header.encode(), enc).encode())
        if packet[0] == Packet.UNKNOWN_KEY:
            raise Rejected(400)
        if packet[0] != Packet.CONTEXT_OK:
            raise Rejected(422)
        document = packet[1 : 1 + DIGEST_LENGTH]
        return Granted(document, ContextSecrets.from_bytes(packet[1 + DIGEST_LENGTH :]))

    def sign(self, statement: Statement) -> bytes:
        """Have the receipt signed: a COSE_Sign1."""
        packet = self._ask(statement.encode())
        if packet[0] != Packet.RECEIPT:
            raise ProtocolError("an answer out of turn")
        return packet[1:]

    def _ask(self, packet: bytes) -> bytes:
        send_packet(self._socket, packet)
        return receive_packet(self._socket)[0]


class WatchedEngine(EngineConnection):
    """An engine connection that also notices, while it waits, that the client has gone.

    Waiting is the only thing an application does for long, so this is the one place to look.
    """

    def __init__(self, sock: socket.socket, geometry: SlotGeometry, front: socket.socket) -> None:
        super().__init__(sock, geometry)
        self._front = front
        self.on_wait: Callable[[], float | None] = lambda: None
        """Called before each wait; it returns how many seconds the wait may take at most."""
        self._poll = select.poll()
        self._engine_fd, self._front_fd = sock.fileno(), front.fileno()
        self._poll.register(self._engine_fd, select.POLLIN)
        self._poll.register(self._front_fd, select.POLLIN)

    def wait(self, timeout: float | None = None) -> set[int]:
        """Wait for the engine; return no slot on timeout, or when `on_wait` is due again.

        Raises:
            ClientGone: the client has gone.
            EngineGone: the engine has.
        """
        bounds = [bound for bound in (timeout, self.on_wait()) if bound is not None]
        ready = dict(self._poll.poll(min(bounds) * 1000 if bounds else None))
        # A socket that has ended is ready to be read.
        if self._front_fd in ready and peer_closed(self._front):
            raise ClientGone
        return self._change() if self._engine_fd in ready else set()

    def _change(self) -> set[int]:
        # One packet a wake-up, and no look for a second: if there is one, the next wait says so.
        packet = self._receive()
        return set() if packet is None else {packet[0]}

    def abandon(self, deadline: float = ERASE_TIMEOUT_S) -> None:
        """Cancel every slot and wait until the engine has erased them all.

        Raises:
            EngineGone: the engine has gone, and the slots with it.
        """
        for index, slot in enumerate(self.slots):
            if slot.state not in _HOLDING_NOTHING:
                slot.cancel()
                self.wake(index)
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            if all(slot.state in _HOLDING_NOTHING for slot in self.slots):
                return
            super().wait(end - time.monotonic())
