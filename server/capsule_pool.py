"""The front's idle capsules: sockets that come from the zygote, each for one request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

from server.control import CAPSULE_NUMBER, DROP_IDLE
from server.errors import PeerGone, ProtocolError, ServerError
from server.messages import (
    LENGTH,
    Message,
    decode,
    encode,
    frame_length,
)
from server.sockets import peer_closed, receive_packet, send_packet

WAIT_S = 5.0
"""How long a request waits for a capsule to be forked. A fork takes milliseconds."""


END_S = 60.0
"""How long a capsule may take to end after its client has gone: it waits for the engine to erase
(`connections.ERASE_TIMEOUT_S`)."""


FEW = 2
"""Idle capsules that are too few to put off the forking of another."""

REPORT_S = 0.05
"""How long after the beginning of an answer it is put off: until its first bytes are through."""

_READ_SIZE = 64 * 1024


class NoCapsule(ServerError):
    """As many capsules are in use as may be, or none was forked in time."""


class CapsuleConnection:
    """The front's side of one capsule."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._received = bytearray()
        self.on_start: Callable[[], None] = lambda: None
        """Called by `started`."""
        self._at_end: list[Callable[[], None]] = []

    def started(self) -> None:
        """Say that the answer has begun."""
        self.on_start()

    def at_end(self, call: Callable[[], None]) -> None:
        """Have `call` called once the capsule has ended, not when its client has gone."""
        self._at_end.append(call)

    async def send(self, message: Message) -> None:
        """Send one message.

        Raises:
            PeerGone: the capsule has gone.
        """
        try:
            self._writer.write(encode(message))
            await self._writer.drain()
        except ConnectionError as error:
            raise PeerGone from error

    async def receive(self) -> Message:
        """Receive one message.

        Raises:
            PeerGone: the capsule has gone. ProtocolError: what came is no message.
        """
        while (frame := self._frame()) is None:
            try:
                data = await self._reader.read(_READ_SIZE)
            except ConnectionError as error:
                raise PeerGone from error
            if not data:
                raise PeerGone
            self._received += data
        return decode(frame)

    def _frame(self) -> bytes | None:
        """Take one whole frame off what was received; None if there is none (yet)."""
        received = self._received
        if len(received) < LENGTH.size:
            return None
        end = LENGTH.size + frame_length(received[: LENGTH.size])
        if len(received) < end:
            return None
        frame = bytes(received[LENGTH.size : end])
        del received[:end]
        return frame

    def hang_up(self) -> None:
        """Let the capsule see the end of the client at once."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write_eof()

    async def gone(self) -> None:
        """Wait until the capsule has ended; what it still sends is dropped."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass

    def close(self) -> None:
        """Close the socket, and call what waited for the end."""
        self._writer.close()
        for call in self._at_end:
            call()


class _Report:
    """Tells the zygote once that a capsule was taken.

    A fork, and the new capsule's rehearsal, take a processor for some milliseconds. As long as
    enough capsules wait, that is put off until the answer has begun.
    """

    def __init__(self, pool: CapsulePool, number: int) -> None:
        self._pool = pool
        self._number: int | None = number

    def soon(self) -> None:
        asyncio.get_running_loop().call_later(REPORT_S, self.now)

    def now(self) -> None:
        number, self._number = self._number, None
        if number is not None:
            self._pool.report(number)


class CapsulePool:
    """Idle capsules, and the count of those in use.

    Args:
        zygote: where capsules come from, and are reported taken.
        limit: how many may be in use at once.
    """

    def __init__(self, zygote: socket.socket, limit: int) -> None:
        self._zygote = zygote
        self._limit = limit
        self._idle: asyncio.Queue[tuple[int, socket.socket]] = asyncio.Queue()
        self.in_use = 0
        self.closed = asyncio.Event()

    def __len__(self) -> int:
        return self._idle.qsize()

    def start(self) -> None:
        """Begin to receive capsules, on the running event loop."""
        self._zygote.setblocking(False)
        asyncio.get_running_loop().add_reader(self._zygote.fileno(), self._on_zygote)

    @contextlib.asynccontextmanager
    async def capsule(self) -> AsyncIterator[CapsuleConnection]:
        """Take an idle capsule for one request.

        Leaving the context hangs up; the place in the count is given back once the capsule has
        ended, which may be later.

        Raises:
            NoCapsule: all are in use, or none came in time.
        """
        if self.in_use >= self._limit:
            raise NoCapsule
        self.in_use += 1
        try:
            number, sock = await self._take()
        except BaseException:
            self.in_use -= 1
            raise
        report = _Report(self, number)
        if self._idle.qsize() <= FEW:
            report.now()
        connection = CapsuleConnection(*await asyncio.open_unix_connection(sock=sock))
        connection.on_start = report.soon
        try:
            yield connection
        finally:
            report.now()
            connection.hang_up()
            ending = asyncio.create_task(self._await_end(connection))
            _ENDING.add(ending)
            ending.add_done_callback(_ENDING.discard)

    def report(self, number: int) -> None:
        """Tell the zygote that a capsule was taken; it forks another then."""
        if not self.closed.is_set():
            with contextlib.suppress(PeerGone):  # its end shows where capsules come from
                send_packet(self._zygote, CAPSULE_NUMBER.pack(number))

    async def _take(self) -> tuple[int, socket.socket]:
        while True:
            try:
                number, sock = await asyncio.wait_for(self._idle.get(), WAIT_S)
            except TimeoutError:
                raise NoCapsule from None
            if not peer_closed(sock):
                return number, sock
            sock.close()
            self.report(number)

    async def _await_end(self, connection: CapsuleConnection) -> None:
        try:
            await asyncio.wait_for(connection.gone(), END_S)
        except TimeoutError:
            pass  # it is stuck; its place is given back all the same
        finally:
            connection.close()
            self.in_use -= 1

    def _on_zygote(self) -> None:
        try:
            while True:
                packet, sockets = receive_packet(self._zygote, sockets=1)
                if packet == DROP_IDLE:
                    self._drop()
                else:
                    self._idle.put_nowait((CAPSULE_NUMBER.unpack(packet)[0], sockets[0]))
        except BlockingIOError:
            return
        except (PeerGone, ProtocolError):
            asyncio.get_running_loop().remove_reader(self._zygote.fileno())
            self.closed.set()

    def _drop(self) -> None:
        while not self._idle.empty():
            self._idle.get_nowait()[1].close()


_ENDING: set[asyncio.Task[None]] = set()
"""Capsules on their way out: the event loop itself holds tasks only weakly."""
