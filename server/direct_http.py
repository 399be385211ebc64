"""HTTP/1.1 on the direct port: one request of a connection, and its answer (h11 is the grammar)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import h11

from server.answers import NO_STORE, of_error
from server.direct_connection import DirectConnection
from server.openai.errors import ApiError
from wire import bhttp

MAX_HEAD = 32 * 1024
"""Most bytes of a request line and its fields."""

MAX_BODY = 16 * 1024 * 1024
"""Most bytes of a body: as many as the largest class of an encapsulated request."""


class TooLarge(ApiError):
    """The body is longer than a request may be."""

    def __init__(self) -> None:
        super().__init__(
            413,
            "invalid_request_error",
            "request_too_large",
            f"A body has {MAX_BODY} bytes at most.",
        )


class NotHttp(ApiError):
    """Not an HTTP/1.1 request."""

    def __init__(self, status: int) -> None:
        message = "The request is not one of HTTP/1.1, or its head is too long."
        super().__init__(status, "invalid_request_error", "malformed_request", message)


@dataclass(frozen=True)
class DirectRequest:
    """A request as it came. `path` is without the query, field names are in lower case."""

    method: bytes
    path: bytes
    query: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a field."""
        return [value for key, value in self.fields if key == name]


class DirectHttp:
    """Reads the one request of a connection."""

    def __init__(
        self, connection: DirectConnection, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._clock = clock
        self.h11 = h11.Connection(h11.SERVER, MAX_HEAD)
        self.method = b""

    def request(self, head_until: float, body_s: float) -> DirectRequest:
        """Read the request: its head until `head_until`, its body in `body_s` seconds more.

        Raises:
            ApiError: it is not one, or too large.
            ClientGone: it did not come in time.
        """
        try:
            head = self._next(head_until)
            if not isinstance(head, h11.Request):
                raise NotHttp(400)
            _check_head(head)
            self.method = head.method
            body = self._body(head, self._clock() + body_s)
        except h11.RemoteProtocolError as error:
            raise NotHttp(error.error_status_hint) from None
        path, _, query = head.target.partition(b"?")
        return DirectRequest(head.method, path, query, tuple(head.headers), body)

    def _body(self, head: h11.Request, until: float) -> bytes:
        lengths = [value for name, value in head.headers if name == b"content-length"]
        if any(int(value) > MAX_BODY for value in lengths):
            raise TooLarge
        if self.h11.they_are_waiting_for_100_continue:
            proceed = h11.InformationalResponse(status_code=100, headers=[])
            self._connection.write(self.h11.send(proceed) or b"")
        body = bytearray()
        while isinstance(event := self._next(until), h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise TooLarge
        return bytes(body)

    def _next(self, until: float) -> h11.Event | None:
        """Return the next event of the request; None behind its end."""
        while (event := self.h11.next_event()) is h11.NEED_DATA:
            self.h11.receive_data(self._connection.read(until))
        return event if isinstance(event, h11.Event) else None


def _check_head(head: h11.Request) -> None:
    """Refuse what h11 lets through: other versions, and a long head that came at once."""
    if head.http_version not in (b"1.0", b"1.1"):
        raise NotHttp(400)
    size = len(head.target) + sum(len(name) + len(value) + 4 for name, value in head.headers)
    if size > MAX_HEAD:
        raise NotHttp(431)


class DirectResponder:
    """Answers as `server.responses.Responder` says, in clear HTTP inside TLS, without padding.

    Every answer ends its connection. One that is cut has no last chunk and ends with an alert.
    """

    def __init__(self, connection: DirectConnection, http: DirectHttp, request_id: bytes) -> None:
        self._connection = connection
        self._http = http
        self._always = ((b"x-request-id", request_id), (b"connection", b"close"))
        self.begun = False

    def whole(self, response: bhttp.Response) -> None:
        """Send a complete answer."""
        length = (b"content-length", b"%d" % len(response.content))
        self._head(response.status, (*response.headers, length))
        if self._http.method != b"HEAD":
            self._data(response.content)
        self.end()

    def error(self, error: ApiError, *fields: tuple[bytes, bytes]) -> None:
        """Send an OpenAI error."""
        self.whole(of_error(error, *fields, NO_STORE))

    def begin(self, status: int, headers: bhttp.Fields) -> None:
        """Send status and header section of a stream."""
        self._head(status, (*headers, NO_STORE))

    def event(self, payload: bytes, *, classed: bool = False) -> None:  # noqa: ARG002 - no padding
        """Send one event."""
        self._data(b"data: " + payload + b"\n\n")

    def end(self, trailers: bhttp.Fields = ()) -> None:  # noqa: ARG002 - nothing is refunded here
        """Complete the answer."""
        self._write(h11.EndOfMessage())
        self._connection.close()

    def cut(self) -> None:
        """End the connection inside the answer."""
        self._connection.abort()

    def _head(self, status: int, fields: bhttp.Fields) -> None:
        self.begun = True
        self._write(h11.Response(status_code=status, headers=[*fields, *self._always]))

    def _data(self, data: bytes) -> None:
        self._write(h11.Data(data=data))

    def _write(self, event: h11.Event) -> None:
        if data := self._http.h11.send(event):
            self._connection.write(data)
