"""What front and capsule say to each other, and the frames they say it in.

    frame = length u32 big-endian (of what follows) || type u8 || body

    capsule                          front
      <- REQUEST(chunked, encapsulated request)     always first, once
      MARK(enc, expiry)           -> MARKED(fresh | replayed | full)
      ADMIT                       -> ADMITTED(ok | busy)
      SPEND(spend id, key id, rows) -> SPENT(ok | spent | unavailable)
      QUOTE(nonce)                -> QUOTED(ok | busy | unavailable, bundle)    after SPEND was OK
      REFUND(key id, blinded)     -> REFUNDED(signatures)    any time after SPEND was OK
      START(chunked) CHUNK... END ->                the answer; without END it was cut
      REJECT(status)              ->                in place of START: the request did not open

Each side sends what it may send once and in this order (REFUND may also come between CHUNKs); a
frame out of turn ends the connection.
The front's end of file means that the client has gone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, TypeAlias

from server.errors import ProtocolError

MAX_FRAME = 24 * 1024 * 1024
"""A request of the largest class (16 MiB), encapsulated, with room for its framing."""

LENGTH = struct.Struct(">I")

_HEAD = struct.Struct(">IB")

_ENC_LENGTHS = (32, 1120)
_EXPIRY = struct.Struct(">Q")
_STATUS = struct.Struct(">H")
_DIGEST = 32
_SPEND_ID = 16
_SIGNATURE = 256
_NONCE = 32
MAX_ROWS = 8

MAX_BUNDLE = 1 << 20
"""Bytes of the longest bundle that a client would decode (`attestation.bundle`)."""


class Marking(IntEnum):
    """The replay set's answer to one `enc`."""

    FRESH = 0
    REPLAYED = 1
    FULL = 2


class Admission(IntEnum):
    """Whether the node has room for another request."""

    OK = 0
    BUSY = 1


class Spending(IntEnum):
    """The spent-token store's answer. UNAVAILABLE: it did not give one."""

    OK = 0
    SPENT = 1
    UNAVAILABLE = 2


class Quoting(IntEnum):
    """Whether the platform quoted. BUSY: others wait for it already."""

    OK = 0
    BUSY = 1
    UNAVAILABLE = 2


@dataclass(frozen=True)
class Request:
    """An encapsulated request as it came, with the framing its media type named."""

    type: ClassVar[int] = 1
    chunked: bool
    encapsulated_request: bytes

    def body(self) -> bytes:
        """The frame's body."""
        return bytes([self.chunked]) + self.encapsulated_request

    @classmethod
    def parse(cls, body: bytes) -> Request:
        """Read the frame's body."""
        return cls(_flag(body[:1]), body[1:])


@dataclass(frozen=True)
class Mark:
    """Remember this `enc` until `expiry` (Unix seconds)."""

    type: ClassVar[int] = 2
    enc: bytes
    expiry: int

    def body(self) -> bytes:
        """The frame's body."""
        return _EXPIRY.pack(self.expiry) + self.enc

    @classmethod
    def parse(cls, body: bytes) -> Mark:
        """Read the frame's body."""
        enc = body[_EXPIRY.size :]
        if len(enc) not in _ENC_LENGTHS:
            raise ProtocolError("a MARK of the wrong length")
        return cls(enc, _EXPIRY.unpack_from(body)[0])


@dataclass(frozen=True)
class Marked:
    """The answer to MARK."""

    type: ClassVar[int] = 3
    marking: Marking

    def body(self) -> bytes:
        """The frame's body."""
        return bytes([self.marking])

    @classmethod
    def parse(cls, body: bytes) -> Marked:
        """Read the frame's body."""
        return cls(Marking(_choice(body, Marking)))


@dataclass(frozen=True)
class Admit:
    """Count this capsule as a request being served, until its socket closes."""

    type: ClassVar[int] = 4

    def body(self) -> bytes:
        """The frame's body."""
        return b""

    @classmethod
    def parse(cls, body: bytes) -> Admit:
        """Read the frame's body."""
        _empty(body)
        return cls()


@dataclass(frozen=True)
class Admitted:
    """The answer to ADMIT."""

    type: ClassVar[int] = 5
    admission: Admission

    def body(self) -> bytes:
        """The frame's body."""
        return bytes([self.admission])

    @classmethod
    def parse(cls, body: bytes) -> Admitted:
        """Read the frame's body."""
        return cls(Admission(_choice(body, Admission)))


@dataclass(frozen=True)
class Spend:
    """Spend these rows together or not at all. The nonces themselves stay in the capsule."""

    type: ClassVar[int] = 6
    spend_id: bytes
    key_id: bytes
    rows: tuple[bytes, ...]

    def body(self) -> bytes:
        """The frame's body."""
        return self.spend_id + self.key_id + b"".join(self.rows)

    @classmethod
    def parse(cls, body: bytes) -> Spend:
        """Read the frame's body."""
        head = _SPEND_ID + _DIGEST
        rows = body[head:]
        if len(rows) % _DIGEST or not 1 <= len(rows) // _DIGEST <= MAX_ROWS:
            raise ProtocolError("a SPEND of the wrong length")
        cut = tuple(rows[at : at + _DIGEST] for at in range(0, len(rows), _DIGEST))
        return cls(body[:_SPEND_ID], body[_SPEND_ID:head], cut)


@dataclass(frozen=True)
class Spent:
    """The answer to SPEND."""

    type: ClassVar[int] = 7
    spending: Spending

    def body(self) -> bytes:
        """The frame's body."""
        return bytes([self.spending])

    @classmethod
    def parse(cls, body: bytes) -> Spent:
        """Read the frame's body."""
        return cls(Spending(_choice(body, Spending)))


@dataclass(frozen=True)
class Start:
    """The answer begins; `chunked` names its media type."""

    type: ClassVar[int] = 8
    chunked: bool

    def body(self) -> bytes:
        """The frame's body."""
        return bytes([self.chunked])

    @classmethod
    def parse(cls, body: bytes) -> Start:
        """Read the frame's body."""
        return cls(_flag(body))


@dataclass(frozen=True)
class Chunk:
    """Sealed bytes of the answer, to be sent on at once."""

    type: ClassVar[int] = 9
    data: bytes

    def body(self) -> bytes:
        """The frame's body."""
        return self.data

    @classmethod
    def parse(cls, body: bytes) -> Chunk:
        """Read the frame's body."""
        return cls(body)


@dataclass(frozen=True)
class End:
    """The answer is complete."""

    type: ClassVar[int] = 10

    def body(self) -> bytes:
        """The frame's body."""
        return b""

    @classmethod
    def parse(cls, body: bytes) -> End:
        """Read the frame's body."""
        _empty(body)
        return cls()


@dataclass(frozen=True)
class Reject:
    """The request did not open: answer this status in clear, 400 or 422."""

    type: ClassVar[int] = 11
    status: int

    def body(self) -> bytes:
        """The frame's body."""
        return _STATUS.pack(self.status)

    @classmethod
    def parse(cls, body: bytes) -> Reject:
        """Read the frame's body."""
        if len(body) != _STATUS.size:
            raise ProtocolError("a REJECT of the wrong length")
        status: int = _STATUS.unpack(body)[0]
        if status not in (400, 422):
            raise ProtocolError("a REJECT with a status that does not exist")
        return cls(status)


@dataclass(frozen=True)
class Refund:
    """Give back one spent token for each blinded message. None: only wait as others do."""

    type: ClassVar[int] = 12
    truncated_key_id: int
    messages: tuple[bytes, ...]

    def body(self) -> bytes:
        """The frame's body."""
        return bytes([self.truncated_key_id]) + b"".join(self.messages)

    @classmethod
    def parse(cls, body: bytes) -> Refund:
        """Read the frame's body."""
        if not body:
            raise ProtocolError("a REFUND of the wrong length")
        return cls(body[0], _signatures(body[1:]))


@dataclass(frozen=True)
class Refunded:
    """The answer to REFUND: a blind signature for each message, zeros where there is none."""

    type: ClassVar[int] = 13
    signatures: tuple[bytes, ...]

    def body(self) -> bytes:
        """The frame's body."""
        return b"".join(self.signatures)

    @classmethod
    def parse(cls, body: bytes) -> Refunded:
        """Read the frame's body."""
        return cls(_signatures(body))


@dataclass(frozen=True)
class Quote:
    """Have the platform quote this client's nonce: all that a capsule has a say in."""

    type: ClassVar[int] = 14
    nonce: bytes

    def body(self) -> bytes:
        """The frame's body."""
        return self.nonce

    @classmethod
    def parse(cls, body: bytes) -> Quote:
        """Read the frame's body."""
        if len(body) != _NONCE:
            raise ProtocolError("a QUOTE of the wrong length")
        return cls(body)


@dataclass(frozen=True)
class Quoted:
    """The answer to QUOTE: a bundle if `quoting` is OK, and nothing else."""

    type: ClassVar[int] = 15
    quoting: Quoting
    bundle: bytes = b""

    def body(self) -> bytes:
        """The frame's body."""
        return bytes([self.quoting]) + self.bundle

    @classmethod
    def parse(cls, body: bytes) -> Quoted:
        """Read the frame's body."""
        quoting, bundle = Quoting(_choice(body[:1], Quoting)), body[1:]
        if bool(bundle) != (quoting is Quoting.OK) or len(bundle) > MAX_BUNDLE:
            raise ProtocolError("a QUOTED with a bundle too many, too long, or missing")
        return cls(quoting, bundle)


Message: TypeAlias = (
    Request
    | Mark
    | Marked
    | Admit
    | Admitted
    | Spend
    | Spent
    | Start
    | Chunk
    | End
    | Reject
    | Refund
    | Refunded
    | Quote
    | Quoted
)

_TYPES: dict[int, type[Message]] = {
    kind.type: kind
    for kind in (
        Request,
        Mark,
        Marked,
        Admit,
        Admitted,
        Spend,
        Spent,
        Start,
        Chunk,
        End,
        Reject,
        Refund,
        Refunded,
        Quote,
        Quoted,
    )
}


def encode(message: Message) -> bytes:
    """Encode one frame.

    Raises:
        ProtocolError: longer than `MAX_FRAME`.
    """
    body = message.body()
    if len(body) + 1 > MAX_FRAME:
        raise ProtocolError("a frame longer than frames may be")
    return LENGTH.pack(len(body) + 1) + bytes([message.type]) + body


def encode_chunk(data: bytes) -> bytes:
    """Encode the frame of `Chunk(data)`: one for every token, so at once.

    Raises:
        ProtocolError: longer than `MAX_FRAME`.
    """
    if len(data) + 1 > MAX_FRAME:
        raise ProtocolError("a frame longer than frames may be")
    return _HEAD.pack(len(data) + 1, Chunk.type) + data


def frame_length(prefix: bytes | bytearray) -> int:
    """Return how many bytes follow a frame's four bytes of length.

    Raises:
        ProtocolError: none, or more than `MAX_FRAME`.
    """
    length: int = LENGTH.unpack(prefix)[0]
    if not 1 <= length <= MAX_FRAME:
        raise ProtocolError("a frame of no bytes, or longer than frames may be")
    return length


def decode(frame: bytes) -> Message:
    """Decode what follows a frame's length.

    Raises:
        ProtocolError: an unknown type, or a body that is not of its type.
    """
    kind = _TYPES.get(frame[0]) if frame else None
    if kind is None:
        raise ProtocolError("a frame of an unknown type")
    return kind.parse(frame[1:])


def _flag(data: bytes) -> bool:
    if data not in (b"\x00", b"\x01"):
        raise ProtocolError("a flag that is neither 0 nor 1")
    return data == b"\x01"


def _choice(body: bytes, choices: type[IntEnum]) -> int:
    if len(body) != 1 or body[0] not in set(choices):
        raise ProtocolError("an answer that does not exist")
    return body[0]


def _signatures(body: bytes) -> tuple[bytes, ...]:
    if len(body) % _SIGNATURE or len(body) > MAX_ROWS * _SIGNATURE:
        raise ProtocolError("not a number of signatures or blinded messages")
    return tuple(body[at : at + _SIGNATURE] for at in range(0, len(body), _SIGNATURE))


def _empty(body: bytes) -> None:
    if body:
        raise ProtocolError("a body where none may be")
