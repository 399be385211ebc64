"""The little of Protocol Buffers that Google's evidence needs, strictly.

A message (https://protobuf.dev/programming-guides/encoding) is fields, each a varint key (number
<< 3 | wire type) and a value: with wire type 0 a varint, with 2 bytes behind their length. Here a
varint is in its shortest form, and fields have no other type: an encoder of these messages writes
none.
"""

from __future__ import annotations

from attestation.errors import MalformedEvidence
from attestation.verifier.tpm.reader import Reader

MAX_FIELDS = 256
_VARINT, _BYTES = 0, 2
_MAX_VARINT = 10


def parse_message(data: bytes) -> dict[int, list[int | bytes]]:
    """Parse a message into the values of each field, in their order.

    Raises:
        MalformedEvidence: not of the format; another wire type; too many fields.
    """
    reader = Reader(data, "protobuf")
    fields: dict[int, list[int | bytes]] = {}
    count = 0
    while reader.remaining:
        count += 1
        if count > MAX_FIELDS:
            raise MalformedEvidence("protobuf: too many fields")
        number, kind = divmod(_varint(reader), 8)
        if kind not in {_VARINT, _BYTES} or not number:
            raise MalformedEvidence("protobuf: a field of another type")
        value = _varint(reader)
        fields.setdefault(number, []).append(reader.take(value) if kind == _BYTES else value)
    return fields


def _varint(reader: Reader) -> int:
    value = 0
    for position in range(_MAX_VARINT):
        byte = reader.integer(1)
        value |= (byte & 0x7F) << 7 * position
        if not byte & 0x80:
            if (byte == 0 and position) or value >= 1 << 64:
                raise MalformedEvidence("protobuf: a number that is not in its shortest form")
            return value
    raise MalformedEvidence("protobuf: a number that is too long")
