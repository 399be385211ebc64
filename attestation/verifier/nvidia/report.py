"""A GPU's report: one SPDM exchange, request and response one after the other (DSP0274 1.1).

    GET_MEASUREMENTS (37 bytes):  version 0x11, code 0xE0, param1 = 1 (signature asked for),
                                  param2 = 0xFF (all measurements), nonce[32], slot
    MEASUREMENTS:                 version 0x11, code 0x60, param1, param2 = slot,
                                  number of blocks u8, length u24, blocks, nonce[32],
                                  opaque length u16, opaque data, signature[96]
    block:                        index u8, specification = 1 (DMTF), size u16,
                                  value type u8, value size u16, value

Little-endian. The signature is over everything before it: ECDSA on P-384 with SHA-384, r and s as
48 bytes each. Where it stands follows from the lengths. Nothing may come after it, not the one
stray zero byte that some captured reports have: a report has one encoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attestation.errors import MalformedEvidence
from attestation.verifier.nvidia import opaque
from attestation.verifier.nvidia.opaque import OpaqueData
from attestation.verifier.nvidia.reader import Reader

MAX_LENGTH = 0x2000
"""The buffer that NVIDIA's library has for a report."""

SIGNATURE_LENGTH = 96
REQUEST_LENGTH = 37

_VERSION = 0x11
_GET_MEASUREMENTS, _MEASUREMENTS = 0xE0, 0x60
_SIGNATURE_REQUESTED, _ALL_MEASUREMENTS = 0x01, 0xFF
_MAX_SLOT = 7
_DMTF = 0x01


@dataclass(frozen=True)
class Report:
    """A report, parsed; nothing in it is verified.

    Attributes:
        nonce: the requester's, 32 bytes.
        measurements: each block's value by its index, which counts from one.
        opaque_data: what the GPU states of itself.
        signed: the bytes that the signature is over.
        signature: r and s, 48 bytes each.
    """

    nonce: bytes
    measurements: Mapping[int, bytes]
    opaque_data: OpaqueData
    signed: bytes
    signature: bytes


def decode(data: bytes) -> Report:
    """Decode a report to its last byte.

    Raises:
        MalformedEvidence: truncated, too long, trailing bytes, another version or message, not all
            measurements or no signature asked for, blocks that are not DMTF's, occur twice or do
            not fill their record, or opaque data that is not NVIDIA's.
    """
    if len(data) > MAX_LENGTH:
        raise MalformedEvidence("report: too long")
    reader = Reader(data, "report")
    nonce, slot = _read_request(reader)
    _read_header(reader, slot)
    count, length = reader.uint(1), reader.uint(3)
    measurements = _decode_blocks(reader.take(length), count)
    reader.take(32)  # the responder's nonce: it makes this transcript unlike any other
    opaque_data = opaque.decode(reader.take(reader.uint(2)))
    end = reader.at
    signature = reader.take(SIGNATURE_LENGTH)
    reader.end()
    return Report(nonce, measurements, opaque_data, data[:end], signature)


def _read_request(reader: Reader) -> tuple[bytes, int]:
    header = reader.take(4)
    if header != bytes((_VERSION, _GET_MEASUREMENTS, _SIGNATURE_REQUESTED, _ALL_MEASUREMENTS)):
        raise MalformedEvidence("report: does not ask for all measurements, signed, in SPDM 1.1")
    nonce, slot = reader.take(32), reader.uint(1)
    if slot > _MAX_SLOT:
        raise MalformedEvidence("report: asks for a slot that does not exist")
    return nonce, slot


def _read_header(reader: Reader, slot: int) -> None:
    version, code, _, answered = reader.take(4)
    if (version, code) != (_VERSION, _MEASUREMENTS):
        raise MalformedEvidence("report: does not answer with measurements of SPDM 1.1")
    if answered != slot:
        raise MalformedEvidence("report: answers from another slot")


def _decode_blocks(record: bytes, count: int) -> dict[int, bytes]:
    reader = Reader(record, "measurement record")
    measurements: dict[int, bytes] = {}
    for _ in range(count):
        index, specification = reader.uint(1), reader.uint(1)
        if specification != _DMTF:
            raise MalformedEvidence("measurement record: a block that is not DMTF's")
        if index in measurements:
            raise MalformedEvidence(f"measurement record: index {index} twice")
        measurements[index] = _decode_block(reader.take(reader.uint(2)))
    reader.end()
    if not measurements:
        raise MalformedEvidence("measurement record: empty")
    return measurements


def _decode_block(block: bytes) -> bytes:
    reader = Reader(block, "measurement block")
    reader.take(1)  # what was measured: the manifests know it by the index
    value = reader.take(reader.uint(2))
    reader.end()
    return value
