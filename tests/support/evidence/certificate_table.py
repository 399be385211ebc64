"""SYNTHESISED: the certificate table of an SNP host, of any certificates."""

import struct
import uuid

from attestation.attester.certificate_table import GUIDS


def certificate_table(certificates, *, big_endian=False):
    """The table of these certificates by name (`GUIDS`), or by GUID."""
    entries, body = b"", b""
    start = 24 * (len(certificates) + 1)
    for name, der in certificates.items():
        guid = uuid.UUID(GUIDS.get(name, name))
        encoded = guid.bytes if big_endian else guid.bytes_le
        entries += struct.pack("<16sII", encoded, start + len(body), len(der))
        body += der
    return entries + bytes(24) + body
