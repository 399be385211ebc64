"""Binary HTTP messages (RFC 9292).

    framing indicator   0 request, 1 response: every section behind its length
                        2 request, 3 response: every section ends with a zero
    control data        method, scheme, authority, path | {1xx status, fields}, status
    header section, content, trailer section, then zero bytes of padding

Trailing sections that are empty may be missing; cut anywhere else, a message is `Truncated`. One
cut between two sections reads as a shorter message: only what carries it can tell (`wire.ohttp`).
The grammar of reading is in `wire.bhttp_reader`, the messages themselves are in `wire.messages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wire import varint
from wire.bhttp_reader import Buffer, read_request, read_response
from wire.errors import Malformed
from wire.messages import (
    INDETERMINATE_RESPONSE,
    KNOWN_REQUEST,
    KNOWN_RESPONSE,
    MAX_CONTENT,
    MAX_FIELDS,
    TOKEN,
    Content,
    End,
    Event,
    Fields,
    Head,
    Request,
    Response,
    check_control,
    check_field,
    check_status,
)

__all__ = [
    "Content",
    "End",
    "Event",
    "Fields",
    "Head",
    "Request",
    "Response",
    "ResponseDecoder",
    "ResponseEncoder",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
]


def _prefixed(data: bytes) -> bytes:
    return varint.encode(len(data)) + data


def _encode_lines(fields: Fields) -> bytes:
    lines = b"".join(
        _prefixed(name) + _prefixed(value)
        for name, value in (check_field(name, value) for name, value in fields)
    )
    if len(lines) > MAX_FIELDS:
        raise Malformed("a field section is too long")
    return lines


def _encode_sections(headers: Fields, content: bytes, trailers: Fields) -> bytes:
    if len(content) > MAX_CONTENT:
        raise Malformed("the content is too long")
    sections = (_encode_lines(headers), content, _encode_lines(trailers))
    return b"".join(_prefixed(section) for section in sections)


def encode_request(request: Request, *, padded_length: int = 0) -> bytes:
    """Encode with known lengths, then pad with zeros up to `padded_length` bytes.

    A message already longer than that is not padded.

    Raises:
        Malformed: `request` is no valid message, so a recipient would refuse it.
    """
    control = (
        check_control(request.method, TOKEN),
        check_control(request.scheme),
        check_control(request.authority),
        check_control(request.path),
    )
    message = bytes([KNOWN_REQUEST]) + b"".join(_prefixed(part) for part in control)
    message += _encode_sections(request.headers, request.content, request.trailers)
    return message.ljust(padded_length, b"\0")


def encode_response(response: Response, *, padded_length: int = 0) -> bytes:
    """Encode with known lengths, then pad with zeros up to `padded_length` bytes.

    Raises:
        Malformed: `response` is no valid message.
    """
    message = bytes([KNOWN_RESPONSE])
    for status, fields in response.informational:
        message += varint.encode(check_status(status, final=False))
        message += _prefixed(_encode_lines(fields))
    message += varint.encode(check_status(response.status, final=True))
    message += _encode_sections(response.headers, response.content, response.trailers)
    return message.ljust(padded_length, b"\0")


class ResponseEncoder:
    """A response of indeterminate length, piece by piece: `head`, any `content`, `end`; once.

    Raises from every method:
        Malformed: the piece is not valid.
        ValueError: called out of order.
    """

    def __init__(self) -> None:
        self._next = "head"

    def _expect(self, piece: str, then: str) -> None:
        if self._next != piece:
            raise ValueError(f"a response does not go on with its {piece} here")
        self._next = then

    def head(self, status: int, headers: Fields = ()) -> bytes:
        """Encode framing, final status and header section."""
        self._expect("head", "content")
        status = check_status(status, final=True)
        lines = _encode_lines(headers)
        return bytes([INDETERMINATE_RESPONSE]) + varint.encode(status) + lines + b"\0"

    def content(self, data: bytes) -> bytes:
        """Encode one content chunk. No data is no chunk: an empty one would end the content."""
        self._expect("content", "content")
        if len(data) > MAX_CONTENT:
            raise Malformed("a content chunk is too long")
        return _prefixed(data) if data else b""

    def end(self, trailers: Fields = (), padding: int = 0) -> bytes:
        """Encode the end of the content, the trailer section and `padding` zero bytes."""
        self._expect("content", "nothing")
        return b"\0" + _encode_lines(trailers) + b"\0" + bytes(padding)


def _body_of(events: Iterable[Event | Request | None]) -> tuple[bytes, Fields]:
    content = bytearray()
    trailers: Fields = ()
    for event in events:
        if isinstance(event, Content):
            content += event.data
            if len(content) > MAX_CONTENT:
                raise Malformed("the content is too long")
        elif isinstance(event, End):
            trailers = event.trailers
    return bytes(content), trailers


def decode_request(data: bytes) -> Request:
    """Decode a whole request, of known or indeterminate length.

    Raises:
        Truncated: cut off where no empty section may be missing.
        Malformed: not a request, not a valid one, or padded with anything but zeros.
    """
    events: Iterator[Event | Request | None] = read_request(Buffer(data, ended=True))
    head = next(events)
    if not isinstance(head, Request):
        raise Malformed("a request has no head")
    content, trailers = _body_of(events)
    return Request(
        head.method, head.scheme, head.authority, head.path, head.headers, content, trailers
    )


def decode_response(data: bytes) -> Response:
    """Decode a whole response, of known or indeterminate length.

    Raises:
        Truncated, Malformed: as `decode_request`.
    """
    events: Iterator[Event | None] = read_response(Buffer(data, ended=True))
    head = next(events)
    if not isinstance(head, Head):
        raise Malformed("a response has no head")
    content, trailers = _body_of(events)
    return Response(head.status, head.headers, content, trailers, head.informational)


class ResponseDecoder:
    """A response as it arrives, of known or indeterminate length: bytes in, events out.

    The events are one `Head`, any number of `Content`, one `End`. Memory is bounded by the limits
    of this file. After an error nothing more is decoded.
    """

    def __init__(self) -> None:
        self._buffer = Buffer()
        self._events = read_response(self._buffer)
        self._failed = False

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; return what they complete.

        Raises:
            Malformed: not a valid response, or an earlier call failed.
            ValueError: after `finish`.
        """
        if self._buffer.ended:
            raise ValueError("the response has been finished")
        self._buffer.append(data)
        return self._drain()

    def finish(self) -> list[Event]:
        """Say that no more bytes come; return the events that only the end completes.

        These are the `End`, and even the `Head`, of a message whose empty sections were left out.

        Raises:
            Truncated: the response is cut off. Malformed: an earlier call failed.
        """
        self._buffer.ended = True
        return self._drain()

    def _drain(self) -> list[Event]:
        if self._failed:
            raise Malformed("an earlier part of the response was not valid")
        events: list[Event] = []
        try:
            while (event := next(self._events, None)) is not None:
                events.append(event)
        except Malformed:
            self._failed = True
            raise
        return events
