"""A client's HTTP/1.1 connections, without sockets: one request after another, one answer each.

`Connection` has the callbacks of an asyncio protocol and calls back itself when something changed;
it waits for nothing and knows no clock of its own. What a party adds is what connects, waits, and
says how long: a few lines in `client.http1` and `relay.http1`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from wire.errors import Malformed, Truncated
from wire.http1 import (
    LAST_CHUNK,
    ResponseHead,
    ResponseReader,
    encode_chunk,
    encode_request_head,
)

READ_AHEAD = 64 * 1024
"""Content that may wait to be taken before reading stops; one more read can be added to it."""

MAX_IDLE = 64
"""Connections kept for further requests."""

IDLE_S = 2.0
"""Below the 5 s after which common servers (uvicorn among them) close an idle connection: a request
must not be lost in a connection that is just being closed, as it is not retried."""


class Wire(Protocol):
    """What is used of an asyncio transport."""

    def write(self, data: bytes) -> None: ...  # noqa: D102 - as asyncio has it, like those below
    def pause_reading(self) -> None: ...  # noqa: D102
    def resume_reading(self) -> None: ...  # noqa: D102
    def is_closing(self) -> bool: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Origin:
    """Whom a connection leads to."""

    scheme: str
    host: str
    port: int


class Connection:
    """One connection. `changed` is called when more can be done; `clock` gives seconds."""

    def __init__(
        self, origin: Origin, changed: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self.origin = origin
        self._changed = changed
        self._clock = clock
        self._wire: Wire
        self._reader: ResponseReader | None = None
        self._chunked = False
        self._sent = False
        self._pieces: list[bytes] = []
        self._paused = False
        self.sink: Callable[[bytes], None] | None = None
        """Where content goes at once, instead of waiting to be taken."""
        self.waiting = 0
        """Bytes of content that can be taken."""
        self.error: Exception | None = None
        """What ended the connection: Malformed, Truncated, or what `fail` was given."""
        self.writable = True
        """Whether the network takes more of the request now."""
        self.heard_at = clock()
        """When something last came or could come again, or the request was complete."""

    # What an asyncio transport calls.

    def connection_made(self, transport: Wire) -> None:
        """Begin."""
        self._wire = transport

    def data_received(self, data: bytes) -> None:
        """Read on in the response."""
        self.heard_at = self._clock()
        if self._reader is None or self._reader.complete:
            self.fail(Malformed("a response that nobody asked for"))
            return
        try:
            content = self._reader.feed(data)
        except Malformed as error:
            self.fail(error)
            return
        if content:
            if self.sink is not None:
                self.sink(content)
                if not self._reader.complete:
                    return
            else:
                self._keep(content)
        self._changed()

    def eof_received(self) -> None:
        """Take the end of the stream, which may be the end of the response."""
        try:
            if self._reader is not None:
                self._reader.end()
        except Truncated as error:
            self.fail(error)
        self._changed()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more comes, and nothing more is taken."""
        if not self.complete:
            self.fail(error or Truncated("the connection was closed inside a response"))
        self.writable = True
        self._changed()

    def pause_writing(self) -> None:
        """Stop sending."""
        self.writable = False

    def resume_writing(self) -> None:
        """Go on sending."""
        self.writable = True
        self._changed()

    # What a party calls.

    @property
    def head(self) -> ResponseHead | None:
        """The final response's head, once it was read."""
        return None if self._reader is None else self._reader.head

    @property
    def complete(self) -> bool:
        """Whether the response was read to its end."""
        return self._reader is not None and self._reader.complete

    @property
    def silence(self) -> float:
        """Seconds for which the other side has said nothing though it was heard."""
        return self._clock() - self.heard_at if self._sent and not self._paused else 0.0

    @property
    def lost(self) -> bool:
        """Whether a request could not be sent any more."""
        return self.error is not None or self._wire.is_closing()

    def begin(self, method: bytes, target: bytes, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the head of the next request; its content is chunked if a field says so.

        Raises:
            Malformed: as `wire.http1.encode_request_head`.
        """
        head = encode_request_head(method, target, fields)
        self._chunked = (b"transfer-encoding", b"chunked") in fields
        self._reader, self._sent, self.sink = ResponseReader(), False, None
        self._wire.write(head)

    def send(self, piece: bytes) -> None:
        """Send a piece of the request's content."""
        if piece and not self.lost:
            self._wire.write(encode_chunk(piece) if self._chunked else piece)

    def end(self) -> None:
        """Send the end of the request."""
        if self._chunked and not self.lost:
            self._wire.write(LAST_CHUNK)
        self._sent = True
        self.heard_at = self._clock()

    def take(self) -> bytes:
        """Return all content that waits."""
        content = b"".join(self._pieces) if len(self._pieces) != 1 else self._pieces[0]
        self._pieces.clear()
        self.waiting = 0
        self.resume()
        return content

    def pause(self) -> None:
        """Read no more for now: there is no room for it."""
        if not self._paused and not self._wire.is_closing():
            self._paused = True
            self._wire.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if not self._paused:
            return
        self._paused = False
        self.heard_at = self._clock()
        if not self._wire.is_closing():
            self._wire.resume_reading()

    def fail(self, error: Exception) -> None:
        """End the connection; the first error stays."""
        self.error = self.error or error
        self._wire.close()
        self._changed()

    def close(self) -> None:
        """End the connection."""
        self._wire.close()

    @property
    def reusable(self) -> bool:
        """Whether it may carry another request: this one sent, its response read, no more there."""
        reader = self._reader
        return reader is not None and reader.reusable and self._sent and not self.lost

    def _keep(self, content: bytes) -> None:
        self._pieces.append(content)
        self.waiting += len(content)
        if self.waiting > READ_AHEAD:
            self.pause()


class IdleConnections:
    """Connections that may carry another request, newest first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._idle: list[tuple[float, Connection]] = []

    def keep(self, connection: Connection) -> None:
        """Keep a connection whose response came whole; close any other."""
        if not connection.reusable or len(self._idle) >= MAX_IDLE:
            connection.close()
            return
        connection.take()  # what nobody wanted must not become the beginning of the next response
        self._idle.append((self._clock(), connection))

    def find(self, origin: Origin) -> Connection | None:
        """Return a connection to `origin` that the other side has not ended, or None."""
        oldest = self._clock() - IDLE_S
        for since, connection in list(self._idle):
            if connection.lost or since < oldest:
                self._idle.remove((since, connection))
                connection.close()
        for place in reversed(range(len(self._idle))):
            if self._idle[place][1].origin == origin:
                return self._idle.pop(place)[1]
        return None

    def close(self) -> None:
        """Close all."""
        while self._idle:
            self._idle.pop()[1].close()
