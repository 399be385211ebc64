"""HTTP messages as values, and what makes one valid in binary form (RFC 9292, sections 3 and 4).

Their `repr` shows neither fields nor content: one is a token, the other a prompt.

`wire.bhttp` encodes and decodes them; it is where other packages import them from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from wire.errors import Malformed

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

KNOWN_REQUEST, KNOWN_RESPONSE, INDETERMINATE_REQUEST, INDETERMINATE_RESPONSE = range(4)
"""Framing indicators (RFC 9292, section 3.3)."""

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A method (RFC 9110, section 5.6.2)."""

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
    headers: Fields = field(default=(), repr=False)
    content: bytes = field(default=b"", repr=False)
    trailers: Fields = field(default=(), repr=False)


@dataclass(frozen=True)
class Response:
    """A response, complete. `informational` are the 1xx responses before it."""

    status: int
    headers: Fields = field(default=(), repr=False)
    content: bytes = field(default=b"", repr=False)
    trailers: Fields = field(default=(), repr=False)
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

    data: bytes = field(repr=False)


@dataclass(frozen=True)
class End:
    """The end of a message: its trailer section."""

    trailers: Fields


Event = Head | Content | End
"""What a response is made of, in this order; any number of `Content`."""


def check_control(value: bytes, pattern: re.Pattern[bytes] = _VISIBLE) -> bytes:
    """Return `value`, a piece of control data; Malformed if it is too long or not `pattern`."""
    if len(value) > MAX_CONTROL or not pattern.fullmatch(value):
        raise Malformed("control data is not valid")
    return value


def check_field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return the field; Malformed if HTTP/2 would refuse it (RFC 9113, section 8.2)."""
    if not _FIELD_NAME.fullmatch(name) or name in _CONNECTION_FIELDS:
        raise Malformed("a field name is not valid in a binary message")
    if not _FIELD_VALUE.fullmatch(value):
        raise Malformed("a field value is not valid")
    return name, value


def check_status(status: int, *, final: bool) -> int:
    """Return `status`; Malformed outside 200..599, or 100..199 if it is not final."""
    if not (200 <= status <= 599 if final else 100 <= status <= 199):
        raise Malformed("a status code is out of range")
    return status
