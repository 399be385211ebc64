"""HTTP/1.1 responses as a client reads them (RFC 9112): bytes in, head and content out.

    status-line   = "HTTP/1." DIGIT SP 3DIGIT [ SP reason ] CRLF
    field-line    = field-name ":" OWS field-value OWS CRLF
    chunked-body  = *( chunk-size [ chunk-ext ] CRLF chunk-data CRLF ) "0" [ chunk-ext ] CRLF
                    *( field-line CRLF ) CRLF

A stream of a completion is hundreds of small chunks, and each crosses two such readers; this one
takes a microsecond for a chunk that comes whole. What is not clear it refuses: bare line feeds,
folded lines, two lengths, a length beside a coding, unknown codings. `wire.http1_client` has the
connection around it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from wire.errors import Malformed, Truncated

MAX_HEAD = 64 * 1024
"""Most bytes of a head. Servers refuse to read half as much."""

_MAX_LINE = 1024
"""Most bytes of a line with a chunk's size (extensions are passed over) or of a trailer."""

_MAX_TRAILERS = 64

_MAX_INTERIM = 8
"""Most 1xx responses before the final one; nobody who speaks to us has a use for any."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*"
    rb"[\x21-\x7e\x80-\xff])?)?[ \t]*"
)
_CHUNK_START = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_UNREADABLE_ANSWERS = frozenset({b"HEAD", b"CONNECT"})  # framed by other rules than all others
_DECIMAL = re.compile(rb"[0-9]{1,18}")
_REQUEST_WORD = re.compile(rb"[\x21-\x7e]+")
_REQUEST_VALUE = re.compile(
    rb"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?"
)


@dataclass(frozen=True)
class ResponseHead:
    """A final response's status and fields; names in lower case."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]

    def values(self, name: bytes) -> list[bytes]:
        """Return the members of a list-valued field, in lower case."""
        lines = (value for key, value in self.fields if key == name)
        return [part.strip().lower() for line in lines for part in line.split(b",")]


def encode_request_head(
    method: bytes, target: bytes, fields: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """Encode what comes before a request's content.

    Raises:
        Malformed: something in it would end the line it stands in, or the head; or `ResponseReader`
            could not read the answer (HEAD, CONNECT).
    """
    if method.upper() in _UNREADABLE_ANSWERS:
        raise Malformed("a method whose answer is not read here")
    if not (_REQUEST_WORD.fullmatch(method) and _REQUEST_WORD.fullmatch(target)):
        raise Malformed("a request line holds no white space")
    for name, value in fields:
        if not _FIELD_LINE.fullmatch(name + b":") or (
            value and not _REQUEST_VALUE.fullmatch(value)
        ):
            raise Malformed("a field is not one line")
    lines = [b"%b %b HTTP/1.1\r\n" % (method, target)]
    lines += [b"%b: %b\r\n" % field for field in fields]
    return b"".join(lines) + b"\r\n"


def encode_chunk(data: bytes) -> bytes:
    """Encode one chunk of content; nothing for no data, since an empty chunk is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"


class ResponseReader:
    """Reads one response to a request that was not HEAD. One failure ends it."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._interim = 0
        self._left: int | None = 0
        """Bytes of content, or of a chunk, still to come; None: until the end of the stream."""
        self._chunked = False
        self._closing = False  # the line end behind a chunk's data is still to come
        self._trailers: int | None = None  # lines of the trailer section, once it has begun
        self._persistent = False
        self.head: ResponseHead | None = None
        """The final response's head, once it was read."""
        self.complete = False
        """Whether the whole response was read."""

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request: all read, nothing more there."""
        return self.complete and self._persistent and not self._buffer

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the stream; return the content that is in them.

        Raises:
            Malformed: not a response as above.
        """
        if self.head is not None and not self._buffer:
            if not self._chunked:
                return self._content(data)
            if whole := self._whole_chunk(data):
                return whole
        searched = max(0, len(self._buffer) - 3)
        self._buffer += data
        if self.head is None and not self._read_head(searched):
            return b""
        return self._read_chunks() if self._chunked else self._content(self._take_all())

    def end(self) -> None:
        """Say that the stream has ended; the response may end with it.

        Raises:
            Truncated: it ended too early.
        """
        if not self.complete and (self.head is None or self._left is not None):
            raise Truncated("the stream ended inside a response")
        self.complete, self._persistent = True, False

    def _take_all(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def _content(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        if len(data) > self._left:
            raise Malformed("more content than was announced")
        self._left -= len(data)
        self.complete = not self._left
        return data

    def _whole_chunk(self, data: bytes) -> bytes | None:
        """Return the data of a chunk that comes alone and whole, as most do; None for others."""
        if self._left or self._closing or self._trailers is not None:
            return None
        start = _CHUNK_START.match(data)
        if start is None or not data.endswith(b"\r\n"):
            return None
        content = data[start.end() : -2]
        return content if len(content) == int(start[1], 16) else None

    def _read_head(self, searched: int) -> bool:
        while (end := self._buffer.find(b"\r\n\r\n", searched)) >= 0:
            if end > MAX_HEAD:
                break
            searched = 0
            lines = bytes(self._buffer[:end]).split(b"\r\n")
            del self._buffer[: end + 4]
            version, status = _status(lines[0])
            if status >= 200:
                self._frame(version, ResponseHead(status, tuple(map(_field, lines[1:]))))
                return True
            self._interim += 1
            if status == 101 or self._interim > _MAX_INTERIM:
                raise Malformed("a change of protocol, or too many interim responses")
        if len(self._buffer) > MAX_HEAD + 3:  # and what may be the beginning of its end
            raise Malformed("the head of a response is too long")
        return False

    def _frame(self, minor_version: int, head: ResponseHead) -> None:
        """Decide where the content ends (RFC 9112, section 6.3)."""
        codings = head.values(b"transfer-encoding")
        lengths = [value for name, value in head.fields if name == b"content-length"]
        if codings not in ([], [b"chunked"]) or (codings and lengths) or len(lengths) > 1:
            raise Malformed("the content's length is not clear")
        if lengths and not _DECIMAL.fullmatch(lengths[0]):
            raise Malformed("a length that is no number")
        self._chunked = bool(codings)
        self._left = int(lengths[0]) if lengths else 0 if codings else None
        if head.status in (204, 304):
            self._chunked, self._left = False, 0
        self.complete = not self._chunked and self._left == 0
        self._persistent = minor_version == 1 and b"close" not in head.values(b"connection")
        self.head = head

    def _read_chunks(self) -> bytes:
        buffer, at = self._buffer, 0
        pieces = []
        while not self.complete:
            if self._left:
                pieces.append(bytes(buffer[at : at + self._left]))
                at += len(pieces[-1])
                self._left -= len(pieces[-1])
                self._closing = not self._left
            start = at + 2 * self._closing
            if self._left or len(buffer) < start:
                break
            if buffer[at:start] != b"\r\n" * self._closing:
                raise Malformed("a chunk does not end where it should")
            at, self._closing = start, False
            end = buffer.find(b"\r\n", at, at + _MAX_LINE)
            if end < 0:
                if len(buffer) - at >= _MAX_LINE:
                    raise Malformed("a line between chunks is too long")
                break
            self._read_line(bytes(buffer[at:end]))
            at = end + 2
        del buffer[:at]
        return b"".join(pieces)

    def _read_line(self, text: bytes) -> None:
        """Read the line of a chunk's size, or one of the trailer section, which is passed over."""
        if self._trailers is None:
            size = _CHUNK_LINE.fullmatch(text)
            if size is None:
                raise Malformed("not the size of a chunk")
            self._left = int(size[1], 16)
            self._trailers = None if self._left else 0
            return
        self._trailers += 1
        self.complete = not text
        if text and (self._trailers > _MAX_TRAILERS or not _FIELD_LINE.fullmatch(text)):
            raise Malformed("a trailer section that is none, or too long")


def _status(text: bytes) -> tuple[int, int]:
    """Return the minor version and the status code of a status line."""
    match = _STATUS_LINE.fullmatch(text)
    if match is None:
        raise Malformed("not a status line")
    return int(match[1]), int(match[2])


def _field(text: bytes) -> tuple[bytes, bytes]:
    match = _FIELD_LINE.fullmatch(text)
    if match is None:
        raise Malformed("not a field line")
    return match[1].lower(), match[2] or b""
