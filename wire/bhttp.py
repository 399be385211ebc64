"""Binary HTTP messages (RFC 9292).

    framing indicator   0 request, 1 response: every section behind its length
                        2 request, 3 response: every section ends with a zero
    control data        method, scheme, authority, path | {1xx status, fields}, status
    header section, content, trailer section, then zero bytes of padding

Trailing sections that are empty may be missing; cut anywhere else, a message is `Truncated`.
One grammar below, written as generators that pause when bytes are missing, serves both whole
messages and streams. Nothing is allocated before its length was found acceptable.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from wire import varint
from wire.errors import Malformed, Truncated

Fields = tuple[tuple[bytes, bytes], ...]
"""Header or trailer fields in order; names in lower case."""

MAX_CONTROL = 8 * 1024
"""Longest method, scheme, authority or path. What common servers allow a request line."""

MAX_FIELDS = 64 * 1024
"""Longest field section. Ours holds at most eight tokens of 472 bytes; others' defaults are 8 KiB
(Apache, Tomcat) to 64 KiB."""

MAX_CONTENT = 16 * 1024 * 1024
"""Longest content, or content chunk: the largest padding class (`wire.padding`)."""

MAX_INFORMATIONAL = 8
"""Most 1xx responses before the final one. We send none; HTTP names four."""

_KNOWN_REQUEST, _KNOWN_RESPONSE, _INDETERMINATE_REQUEST, _INDETERMINATE_RESPONSE = range(4)

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_FIELD_VALUE = re.compile(rb"(?:[^\x00\r\n\t ](?:[^\x00\r\n]*[^\x00\r\n\t ])?)?")
_VISIBLE = re.compile(rb"[\x21-\x7e]*")

_CONNECTION_FIELDS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Fields about a connection that a message alone does not have (RFC 9113, section 8.2.2)."""


@dataclass(frozen=True)
class Request:
    """A request, complete."""

    method: bytes
    scheme: bytes
    authority: bytes
    path: bytes
    headers: Fields = ()
    content: bytes = b""
    trailers: Fields = ()


@dataclass(frozen=True)
class Response:
    """A response, complete. `informational` are the 1xx responses before it."""

    status: int
    headers: Fields = ()
    content: bytes = b""
    trailers: Fields = ()
    informational: tuple[tuple[int, Fields], ...] = ()


@dataclass(frozen=True)
class Head:
    """The beginning of a response: its final status and header section."""

    status: int
    headers: Fields
    informational: tuple[tuple[int, Fields], ...] = ()


@dataclass(frozen=True)
class Content:
    """A piece of content: one chunk of an indeterminate-length message, or all of a known one."""

    data: bytes


@dataclass(frozen=True)
class End:
    """The end of a message: its trailer section."""

    trailers: Fields


Event = Head | Content | End


# Validation, the same for both directions.


def _check_control(value: bytes, pattern: re.Pattern[bytes] = _VISIBLE) -> bytes:
    if len(value) > MAX_CONTROL or not pattern.fullmatch(value):
        raise Malformed("control data is not valid")
    return value


def _check_field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if not _FIELD_NAME.fullmatch(name) or name in _CONNECTION_FIELDS:
        raise Malformed("a field name is not valid in a binary message")
    if not _FIELD_VALUE.fullmatch(value):
        raise Malformed("a field value is not valid")
    return name, value


def _check_status(status: int, *, final: bool) -> int:
    if not (200 <= status <= 599 if final else 100 <= status <= 199):
        raise Malformed("a status code is out of range")
    return status


# Encoding.


def _prefixed(data: bytes) -> bytes:
    return varint.encode(len(data)) + data


def _encode_lines(fields: Fields) -> bytes:
    lines = b"".join(
        _prefixed(name) + _prefixed(value)
        for name, value in (_check_field(name, value) for name, value in fields)
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
        _check_control(request.method, _TOKEN),
        _check_control(request.scheme),
        _check_control(request.authority),
        _check_control(request.path),
    )
    message = bytes([_KNOWN_REQUEST]) + b"".join(_prefixed(part) for part in control)
    message += _encode_sections(request.headers, request.content, request.trailers)
    return message.ljust(padded_length, b"\0")


def encode_response(response: Response, *, padded_length: int = 0) -> bytes:
    """Encode with known lengths, then pad with zeros up to `padded_length` bytes.

    Raises:
        Malformed: `response` is no valid message.
    """
    message = bytes([_KNOWN_RESPONSE])
    for status, fields in response.informational:
        message += varint.encode(_check_status(status, final=False))
        message += _prefixed(_encode_lines(fields))
    message += varint.encode(_check_status(response.status, final=True))
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
        status = _check_status(status, final=True)
        lines = _encode_lines(headers)
        return bytes([_INDETERMINATE_RESPONSE]) + varint.encode(status) + lines + b"\0"

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


# Decoding.

_T = TypeVar("_T")
_Step = Generator[None, None, _T]  # pauses while bytes are missing, then returns


class _Buffer:
    """Bytes received and not yet parsed."""

    def __init__(self, data: bytes = b"", *, ended: bool = False) -> None:
        self._data = bytearray(data)
        self._start = 0
        self.ended = ended

    def __len__(self) -> int:
        return len(self._data) - self._start

    def append(self, data: bytes) -> None:
        del self._data[: self._start]
        self._start = 0
        self._data += data

    def first(self) -> int:
        return self._data[self._start]

    def take(self, length: int) -> bytes:
        start, self._start = self._start, self._start + length
        return bytes(memoryview(self._data)[start : self._start])


def _await(buffer: _Buffer, length: int) -> _Step[None]:
    while len(buffer) < length:
        if buffer.ended:
            raise Truncated("a binary message is cut off")
        yield


def _at_end(buffer: _Buffer) -> _Step[bool]:
    while not len(buffer):
        if buffer.ended:
            return True
        yield
    return False


def _integer(buffer: _Buffer) -> _Step[int]:
    yield from _await(buffer, 1)
    length = varint.encoded_length(buffer.first())
    yield from _await(buffer, length)
    return varint.decode(buffer.take(length))[0]


def _length(buffer: _Buffer, limit: int) -> _Step[int]:
    length = yield from _integer(buffer)
    if length > limit:
        raise Malformed("a length in a binary message is beyond its limit")
    return length


def _string(buffer: _Buffer, limit: int) -> _Step[bytes]:
    length = yield from _length(buffer, limit)
    yield from _await(buffer, length)
    return buffer.take(length)


def _known_fields(buffer: _Buffer) -> _Step[Fields]:
    section = yield from _string(buffer, MAX_FIELDS)
    fields = []
    offset = 0
    while offset < len(section):
        parts = []
        for _ in range(2):
            try:
                length, start = varint.decode(section, offset)
            except Truncated:
                raise Malformed("a field overruns its section") from None
            offset = start + length
            if offset > len(section):
                raise Malformed("a field overruns its section")
            parts.append(section[start:offset])
        fields.append(_check_field(*parts))
    return tuple(fields)


def _indeterminate_fields(buffer: _Buffer) -> _Step[Fields]:
    fields = []
    left = MAX_FIELDS
    while name := (yield from _string(buffer, left)):
        value = yield from _string(buffer, left - len(name))
        left -= len(name) + len(value) + 2  # each line has two lengths of at least a byte
        if left < 0:
            raise Malformed("a field section is too long")
        fields.append(_check_field(name, value))
    return tuple(fields)


def _fields(buffer: _Buffer, *, known: bool) -> _Step[Fields]:
    """Read a section; none at all when the message ends before it (section 3.8)."""
    if (yield from _at_end(buffer)):
        return ()
    return (yield from (_known_fields(buffer) if known else _indeterminate_fields(buffer)))


_Events = Generator[Event | None, None, None]  # None: more bytes are needed


def _body(buffer: _Buffer, *, known: bool) -> _Events:
    """Content, trailer section and padding (sections 3.7 and 3.8)."""
    if not (yield from _at_end(buffer)):
        while data := (yield from _string(buffer, MAX_CONTENT)):
            yield Content(data)
            if known:
                break
    yield End((yield from _fields(buffer, known=known)))
    while not (yield from _at_end(buffer)):
        if any(buffer.take(len(buffer))):
            raise Malformed("padding is not zero")


def _framing(buffer: _Buffer, known: int, indeterminate: int) -> _Step[bool]:
    framing = yield from _integer(buffer)
    if framing not in (known, indeterminate):
        raise Malformed("not the framing indicator of such a message")
    return framing == known


def _read_request(buffer: _Buffer) -> Generator[Event | Request | None, None, None]:
    known = yield from _framing(buffer, _KNOWN_REQUEST, _INDETERMINATE_REQUEST)
    method = _check_control((yield from _string(buffer, MAX_CONTROL)), _TOKEN)
    scheme = _check_control((yield from _string(buffer, MAX_CONTROL)))
    authority = _check_control((yield from _string(buffer, MAX_CONTROL)))
    path = _check_control((yield from _string(buffer, MAX_CONTROL)))
    headers = yield from _fields(buffer, known=known)
    yield Request(method, scheme, authority, path, headers)
    yield from _body(buffer, known=known)


def _read_response(buffer: _Buffer) -> _Events:
    known = yield from _framing(buffer, _KNOWN_RESPONSE, _INDETERMINATE_RESPONSE)
    informational: list[tuple[int, Fields]] = []
    status = yield from _integer(buffer)
    while status < 200:
        _check_status(status, final=False)
        if len(informational) == MAX_INFORMATIONAL:
            raise Malformed("too many informational responses")
        yield from _await(buffer, 1)  # a message does not end before its final status
        informational.append((status, (yield from _fields(buffer, known=known))))
        status = yield from _integer(buffer)
    _check_status(status, final=True)
    headers = yield from _fields(buffer, known=known)
    yield Head(status, headers, tuple(informational))
    yield from _body(buffer, known=known)


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
    events: Iterator[Event | Request | None] = _read_request(_Buffer(data, ended=True))
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
    events: Iterator[Event | None] = _read_response(_Buffer(data, ended=True))
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
        self._buffer = _Buffer()
        self._events = _read_response(self._buffer)
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
