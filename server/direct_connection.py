"""One client's socket inside a capsule of the direct port, with its TLS.

A confined capsule may not change a socket, so every call says for itself that it does not block.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable

from server.errors import ClientGone
from wire.tls13 import ServerConnection
from wire.tls13_messages import TlsFailure

UNREAD_TIMEOUT_S = 60.0
"""How long a client may read nothing of what is sent."""

LINGER_S = 2.0
"""How long what still comes is read and dropped after the answer: closing a socket with unread
bytes resets the connection, and the reset can overtake the answer."""

LINGER_BYTES = 32 * 1024 * 1024

_READ_SIZE = 64 * 1024


class DirectConnection:
    """The stream to the client. What fails here is the client's end: ClientGone."""

    def __init__(
        self,
        sock: socket.socket,
        tls: ServerConnection,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.socket = sock
        self._tls = tls
        self._clock = clock
        self._early = b""  # of the request, come with the end of the handshake

    def handshake(self, seconds: float) -> float:
        """Complete the handshake; return until when the head of the request may take.

        Raises:
            ClientGone: it failed, or took too long.
        """
        deadline = self._clock() + seconds
        while not self._tls.established:
            self._early += self._receive(self._wait(deadline))
        return deadline

    def read(self, deadline: float) -> bytes:
        """Return the next bytes of the request; never none.

        Raises:
            ClientGone: nothing more will come, or nothing came until `deadline`.
        """
        data, self._early = self._early, b""
        while not data:
            data = self._receive(self._wait(deadline))
        return data

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""
        self._tls.send(data)
        self._flush()

    def gone(self) -> bool:
        """Whether the client has closed its side; whatever else it sends is dropped."""
        try:
            while True:
                self._receive(self.socket.recv(_READ_SIZE, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
        except (ClientGone, ConnectionError):
            return True

    def close(self) -> None:
        """Say that the answer is complete, and wait a little for the client to close."""
        self._tls.close()
        with contextlib.suppress(ClientGone):
            self._flush()
            self._linger()

    def abort(self) -> None:
        """End the connection with an alert: what was sent is not complete."""
        self._tls.abort()
        with contextlib.suppress(ClientGone):
            self._flush()

    def _receive(self, data: bytes) -> bytes:
        if not data:
            raise ClientGone
        try:
            received = self._tls.receive(data)
        except TlsFailure as failure:
            self._flush()
            self._linger()
            raise ClientGone from failure
        self._flush()
        if self._tls.closed and not received:
            raise ClientGone
        return received

    def _wait(self, deadline: float) -> bytes:
        self._poll(select.POLLIN, deadline)
        try:
            return self.socket.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        except ConnectionError as error:
            raise ClientGone from error

    def _flush(self) -> None:
        view = memoryview(self._tls.to_send())
        while view:
            try:
                view = view[self.socket.send(view, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                self._poll(select.POLLOUT, self._clock() + UNREAD_TIMEOUT_S)
            except ConnectionError as error:
                raise ClientGone from error

    def _poll(self, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self.socket.fileno(), event)
        if not poll.poll(max(0.0, deadline - self._clock()) * 1000):
            raise ClientGone

    def _linger(self) -> None:
        deadline, left = self._clock() + LINGER_S, LINGER_BYTES
        while left > 0 and (data := self._wait(deadline)):
            left -= len(data)
