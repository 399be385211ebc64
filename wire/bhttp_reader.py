"""The grammar of binary HTTP (RFC 9292, section 3), for whole messages and streams alike.

Each rule is a generator that pauses when bytes are missing and goes on when they have come.
Nothing is allocated before its length was found acceptable. `wire.bhttp` is the way in.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from wire import varint
from wire.errors import Malformed, Truncated
from wire.messages import (
    INDETERMINATE_REQUEST,
    INDETERMINATE_RESPONSE,
    KNOWN_REQUEST,
    KNOWN_RESPONSE,
    MAX_CONTENT,
    MAX_CONTROL,
    MAX_FIELDS,
    MAX_INFORMATIONAL,
    TOKEN,
    Content,
    End,
    Event,
    Fields,
    Head,
    Request,
    check_control,
    check_field,
    check_status,
)

_T = TypeVar("_T")
_Step = Generator[None, None, _T]  # pauses while bytes are missing, then returns


class Buffer:
    """Bytes received and not yet parsed."""

    def __init__(self, data: bytes = b"", *, ended: bool = False) -> None:
        self._data = bytearray(data)
        self._start = 0
        self.ended = ended

    def __len__(self) -> int:
        return len(self._data) - self._start

    def append(self, data: bytes) -> None:
        """Add the next bytes received."""
        del self._data[: self._start]
        self._start = 0
        self._data += data

    def first(self) -> int:
        """Return the first byte, which stays."""
        return self._data[self._start]

    def take(self, length: int) -> bytes:
        """Take the first `length` bytes, which must be there."""
        start, self._start = self._start, self._start + length
        return bytes(memoryview(self._data)[start : self._start])


def _await(buffer: Buffer, length: int) -> _Step[None]:
    while len(buffer) < length:
        if buffer.ended:
            raise Truncated("a binary message is cut off")
        yield


def _at_end(buffer: Buffer) -> _Step[bool]:
    while not len(buffer):
        if buffer.ended:
            return True
        yield
    return False


def _integer(buffer: Buffer) -> _Step[int]:
    yield from _await(buffer, 1)
    length = varint.encoded_length(buffer.first())
    yield from _await(buffer, length)
    return varint.decode(buffer.take(length))[0]


def _length(buffer: Buffer, limit: int) -> _Step[int]:
    length = yield from _integer(buffer)
    if length > limit:
        raise Malformed("a length in a binary message is beyond its limit")
    return length


def _string(buffer: Buffer, limit: int) -> _Step[bytes]:
    length = yield from _length(buffer, limit)
    yield from _await(buffer, length)
    return buffer.take(length)


def _known_fields(buffer: Buffer) -> _Step[Fields]:
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
        fields.append(check_field(*parts))
    return tuple(fields)


def _indeterminate_fields(buffer: Buffer) -> _Step[Fields]:
    fields = []
    left = MAX_FIELDS
    while name := (yield from _string(buffer, left)):
        value = yield from _string(buffer, left - len(name))
        left -= len(name) + len(value) + 2  # each line has two lengths of at least a byte
        if left < 0:
            raise Malformed("a field section is too long")
        fields.append(check_field(name, value))
    return tuple(fields)


def _fields(buffer: Buffer, *, known: bool) -> _Step[Fields]:
    """Read a section; none at all when the message ends before it (section 3.8)."""
    if (yield from _at_end(buffer)):
        return ()
    return (yield from (_known_fields(buffer) if known else _indeterminate_fields(buffer)))


Events = Generator[Event | None, None, None]
"""What a response is read as; None means that more bytes are needed."""


def _body(buffer: Buffer, *, known: bool) -> Events:
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


def _framing(buffer: Buffer, known: int, indeterminate: int) -> _Step[bool]:
    framing = yield from _integer(buffer)
    if framing not in (known, indeterminate):
        raise Malformed("not the framing indicator of such a message")
    return framing == known


def read_request(buffer: Buffer) -> Generator[Event | Request | None, None, None]:
    """Read a request: first a `Request` without its body, then its `Content` and `End`."""
    known = yield from _framing(buffer, KNOWN_REQUEST, INDETERMINATE_REQUEST)
    method = check_control((yield from _string(buffer, MAX_CONTROL)), TOKEN)
    scheme = check_control((yield from _string(buffer, MAX_CONTROL)))
    authority = check_control((yield from _string(buffer, MAX_CONTROL)))
    path = check_control((yield from _string(buffer, MAX_CONTROL)))
    headers = yield from _fields(buffer, known=known)
    yield Request(method, scheme, authority, path, headers)
    yield from _body(buffer, known=known)


def read_response(buffer: Buffer) -> Events:
    """Read a response: `Head`, any `Content`, `End`; None whenever more bytes are needed."""
    known = yield from _framing(buffer, KNOWN_RESPONSE, INDETERMINATE_RESPONSE)
    informational: list[tuple[int, Fields]] = []
    status = yield from _integer(buffer)
    while status < 200:
        check_status(status, final=False)
        if len(informational) == MAX_INFORMATIONAL:
            raise Malformed("too many informational responses")
        yield from _await(buffer, 1)  # a message does not end before its final status
        informational.append((status, (yield from _fields(buffer, known=known))))
        status = yield from _integer(buffer)
    check_status(status, final=True)
    headers = yield from _fields(buffer, known=known)
    yield Head(status, headers, tuple(informational))
    yield from _body(buffer, known=known)
