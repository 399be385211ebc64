"""The certificate table that an SNP host hands to its guests: what the kernel's `auxblob` holds.

GHCB specification (AMD 56421), section "SNP Extended Guest Request":

    (GUID (16), offset u32, length u32)* 24 zero bytes, then the certificates at their offsets

Some hosts write a GUID's first fields little-endian, as EFI does, and some all of it big-endian.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping

from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import MalformedEvidence
from attestation.verifier import certificates

GUIDS = {
    "vcek": "63da758d-e664-4564-adc5-f4b93be8accd",
    "vlek": "a8074bc2-a25a-483e-aae6-39c045a0b8a1",
    "ask": "4ab7b379-bbac-4fe4-a02f-05aef327c782",
    "ark": "c0b406a4-a803-4952-9743-3fb6014cd0ae",
}
"""The entries that are certificates; others are passed over. A VLEK's `ask` is the ASVK."""

MAX_ENTRIES = 64
_ENTRY = struct.Struct("<16sII")
_NAMES = {
    encoded: name
    for name, text in GUIDS.items()
    for encoded in (uuid.UUID(text).bytes_le, uuid.UUID(text).bytes)
}
_KEY_INFORMATION = 0x48
_VLEK = 1


def parse_certificate_table(table: bytes) -> dict[str, bytes]:
    """Return the certificates of a table by their names in `GUIDS`, not looked into.

    Raises:
        MalformedEvidence: no end to the entries, or an entry that points outside or is there twice.
    """
    found: dict[str, bytes] = {}
    for index in range(MAX_ENTRIES):
        entry = table[index * _ENTRY.size : (index + 1) * _ENTRY.size]
        if len(entry) != _ENTRY.size:
            raise MalformedEvidence("certificate table: cut")
        guid, offset, length = _ENTRY.unpack(entry)
        if not any(entry):
            return found
        name = _NAMES.get(guid)
        if name in found or offset + length > len(table):
            raise MalformedEvidence("certificate table: an entry twice, or of bytes outside")
        if name is not None:
            found[name] = table[offset : offset + length]
    raise MalformedEvidence("certificate table: too many entries")


def amd_chain(found: Mapping[str, bytes], report: bytes) -> bytes:
    """Return the chain of the key that signed an SNP report, PEM; nothing if a part is missing.

    Raises:
        MalformedEvidence: a part is not a certificate.
    """
    if len(report) <= _KEY_INFORMATION:
        raise MalformedEvidence("SNP report: cut")
    is_vlek = report[_KEY_INFORMATION] >> 2 & 7 == _VLEK
    names = ("vlek" if is_vlek else "vcek", "ask", "ark")
    if not all(found.get(name) for name in names):
        return b""
    loaded = (certificates.load(found[name], at_most=1) for name in names)
    return b"".join(one.public_bytes(Encoding.PEM) for (one,) in loaded)
