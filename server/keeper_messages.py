"""What the keeper is told and asked: packets of fixed layout, on sockets that keep packets whole.

    from a capsule
      CONTEXT  chunked u8, header 7, enc 32 | 1120
          CONTEXT_OK   key document 32, context secrets
          UNKNOWN_KEY
          BAD_ENC
      SIGN  request hash 32, response hash 32, prompt tokens u32, completion tokens u32,
            checks u64, decisions 32, sent u64, hits u64, misses u64
          RECEIPT      COSE_Sign1
    from the front
      CHECK chunked u8, final u8, header 7, enc 32 | 1120, ciphertext with its tag 16..65552
          AUTHENTIC
          UNKNOWN_KEY
          BAD_ENC      or not authentic: it will not open
    from the launcher
      NEW   generation u32, key ids 2
          PUBLIC       X25519 32, X-Wing 1216, receipt key 32
      BIND  generation u32, key document 32, model 32, verification u8, transfers u8
          DONE
      LEAF  generation u32, bundle 32, not after u64
          SIGNED       leaf
      OPEN  generation u32
          DONE
      ERASE generation u32
          DONE

Every packet begins with its type, one byte; the indented line is the answer.
A capsule may ask CONTEXT once and then SIGN once. Anything else closes its connection.
The ciphertext of a CHECK is opaque: its tag is computed over it, and nothing in it is read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from server.errors import ProtocolError
from wire.hpke import ENC_LENGTH, TAG_LENGTH
from wire.receipt import TRANSFER_MODES, VERIFICATION_MODES

HEADER_LENGTH = 7
ENC_LENGTHS = (32, 1120)
X25519_LENGTH = 32
XWING_LENGTH = 1216
RECEIPT_KEY_LENGTH = 32
MAX_CHECKED = 64 * 1024 + TAG_LENGTH
"""Most bytes of ciphertext in a CHECK: four times a chunk; most requests in one piece are less."""
DIGEST_LENGTH = 32

_ENC_LENGTH_OF = {kem.to_bytes(2, "big"): length for kem, length in ENC_LENGTH.items()}
_SIGN = struct.Struct(">32s32sIIQ32sQQQ")
_NEW = struct.Struct(">IBB")
_BIND = struct.Struct(">I32s32sBB")
_LEAF = struct.Struct(">I32sQ")
_GENERATION = struct.Struct(">I")


class Packet(IntEnum):
    """The first byte of every packet."""

    CONTEXT = 1
    CONTEXT_OK = 2
    UNKNOWN_KEY = 3
    BAD_ENC = 4
    SIGN = 5
    RECEIPT = 6
    CHECK = 7
    AUTHENTIC = 8
    NEW = 16
    PUBLIC = 17
    BIND = 18
    LEAF = 19
    SIGNED = 20
    OPEN = 21
    ERASE = 22
    DONE = 23


@dataclass(frozen=True)
class ContextRequest:
    """CONTEXT: whose `enc` under which header, plain or chunked (the two have another `info`)."""

    chunked: bool
    header: bytes
    enc: bytes

    def encode(self) -> bytes:
        """Encode the packet."""
        return bytes([Packet.CONTEXT, self.chunked]) + self.header + self.enc

    @classmethod
    def decode(cls, packet: bytes) -> ContextRequest:
        """Decode the packet.

        Raises:
            ProtocolError: not exactly one of the two lengths there are.
        """
        head = 2 + HEADER_LENGTH
        if len(packet) - head not in ENC_LENGTHS or packet[1] > 1:
            raise ProtocolError("a CONTEXT of the wrong layout")
        return cls(packet[1] == 1, packet[2:head], packet[head:])


@dataclass(frozen=True)
class CheckRequest:
    """CHECK: the first ciphertext of a request; `final` names its additional data."""

    chunked: bool
    final: bool
    header: bytes
    enc: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        """Encode the packet."""
        flags = bytes([Packet.CHECK, self.chunked, self.final])
        return flags + self.header + self.enc + self.ciphertext

    @classmethod
    def decode(cls, packet: bytes) -> CheckRequest:
        """Decode the packet.

        Raises:
            ProtocolError: cut off, too long, or of no KEM there is.
        """
        head = 3 + HEADER_LENGTH
        enc_length = _ENC_LENGTH_OF.get(packet[4:6])
        if packet[0] != Packet.CHECK or enc_length is None or max(packet[1:3]) > 1:
            raise ProtocolError("a CHECK of the wrong layout")
        end = head + enc_length
        if not TAG_LENGTH <= len(packet) - end <= MAX_CHECKED:
            raise ProtocolError("a CHECK of the wrong length")
        flags = packet[1] == 1, packet[2] == 1
        return cls(*flags, packet[3:head], packet[head:end], packet[end:])


@dataclass(frozen=True)
class Statement:
    """SIGN: what one capsule states about its request; the keeper adds the rest of the receipt."""

    request_hash: bytes
    response_hash: bytes
    prompt_tokens: int
    completion_tokens: int
    checks: int
    decisions: bytes
    sent: int
    hits: int
    misses: int

    def encode(self) -> bytes:
        """Encode the packet."""
        return bytes([Packet.SIGN]) + _SIGN.pack(
            self.request_hash,
            self.response_hash,
            self.prompt_tokens,
            self.completion_tokens,
            self.checks,
            self.decisions,
            self.sent,
            self.hits,
            self.misses,
        )

    @classmethod
    def decode(cls, packet: bytes) -> Statement:
        """Decode the packet.

        Raises:
            ProtocolError: of another length.
        """
        return cls(*_fields(_SIGN, packet))


@dataclass(frozen=True)
class NewGeneration:
    """NEW: make the keys of a generation; its configs get these two key ids."""

    generation: int
    x25519_id: int
    xwing_id: int

    def encode(self) -> bytes:
        """Encode the packet."""
        return bytes([Packet.NEW]) + _NEW.pack(self.generation, self.x25519_id, self.xwing_id)

    @classmethod
    def decode(cls, packet: bytes) -> NewGeneration:
        """Decode the packet, or raise ProtocolError."""
        return cls(*_fields(_NEW, packet))


@dataclass(frozen=True)
class PublicKeys:
    """PUBLIC: the public halves of a generation."""

    x25519: bytes
    xwing: bytes
    receipt: bytes

    def encode(self) -> bytes:
        """Encode the packet."""
        return bytes([Packet.PUBLIC]) + self.x25519 + self.xwing + self.receipt

    @classmethod
    def decode(cls, packet: bytes) -> PublicKeys:
        """Decode the packet, or raise ProtocolError."""
        if len(packet) != 1 + X25519_LENGTH + XWING_LENGTH + RECEIPT_KEY_LENGTH:
            raise ProtocolError("a PUBLIC of the wrong length")
        first, second = 1 + X25519_LENGTH, 1 + X25519_LENGTH + XWING_LENGTH
        return cls(packet[1:first], packet[first:second], packet[second:])


@dataclass(frozen=True)
class Binding:
    """BIND: the key document the generation is in, and what its receipts say beside it."""

    generation: int
    key_document: bytes
    model_digest: bytes
    verification: str
    transfers: str

    def encode(self) -> bytes:
        """Encode the packet."""
        return bytes([Packet.BIND]) + _BIND.pack(
            self.generation,
            self.key_document,
            self.model_digest,
            VERIFICATION_MODES.index(self.verification),
            TRANSFER_MODES.index(self.transfers),
        )

    @classmethod
    def decode(cls, packet: bytes) -> Binding:
        """Decode the packet, or raise ProtocolError."""
        generation, document, model, verification, transfers = _fields(_BIND, packet)
        if verification >= len(VERIFICATION_MODES) or transfers >= len(TRANSFER_MODES):
            raise ProtocolError("a BIND to a mode that does not exist")
        modes = VERIFICATION_MODES[verification], TRANSFER_MODES[transfers]
        return cls(generation, document, model, *modes)


@dataclass(frozen=True)
class LeafRequest:
    """LEAF: sign the generation's node leaf, over its own key document and this bundle."""

    generation: int
    bundle_digest: bytes
    not_after: int

    def encode(self) -> bytes:
        """Encode the packet."""
        packed = _LEAF.pack(self.generation, self.bundle_digest, self.not_after)
        return bytes([Packet.LEAF]) + packed

    @classmethod
    def decode(cls, packet: bytes) -> LeafRequest:
        """Decode the packet, or raise ProtocolError."""
        return cls(*_fields(_LEAF, packet))


def encode_generation(packet: Packet, generation: int) -> bytes:
    """Encode OPEN or ERASE."""
    return bytes([packet]) + _GENERATION.pack(generation)


def decode_generation(packet: bytes) -> int:
    """Decode OPEN or ERASE, or raise ProtocolError."""
    generation: int = _fields(_GENERATION, packet)[0]
    return generation


def _fields(layout: struct.Struct, packet: bytes) -> tuple[Any, ...]:
    if len(packet) != 1 + layout.size:
        raise ProtocolError("a packet of the wrong length")
    return layout.unpack_from(packet, 1)
