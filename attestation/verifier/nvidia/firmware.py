"""The firmware id in a GPU's certificate: which firmware its attestation key was derived under.

DICE derives the key from the firmware's digest, and the certificate states that digest in one of
two extensions of the Trusted Computing Group, both DER:

    2.23.133.5.4.1     SEQUENCE {version INTEGER, subjectPublicKeyInfo, fwid FWID}       (Hopper)
    2.23.133.5.4.1.1   SEQUENCE {..., [6] SEQUENCE OF FWID, ...}  DiceTcbInfo            (Blackwell)
    FWID               SEQUENCE {hashAlg OBJECT IDENTIFIER, digest OCTET STRING}

Of several firmware ids the first is the one that a report repeats.
"""

from __future__ import annotations

from cryptography.x509 import Certificate, ExtensionNotFound, ObjectIdentifier

from attestation.errors import MalformedEvidence
from attestation.verifier.nvidia.reader import Reader, read_der

COMPOSITE_DEVICE_ID = ObjectIdentifier("2.23.133.5.4.1")
DICE_TCB_INFO = ObjectIdentifier("2.23.133.5.4.1.1")

_INTEGER, _OCTETS, _SEQUENCE = 0x02, 0x04, 0x30
_FWIDS = 0xA6  # [6], constructed


def firmware_id(certificate: Certificate) -> bytes:
    """Return the firmware id that a certificate states; empty if it states none.

    Raises:
        MalformedEvidence: one of the two extensions is there and not of its form.
    """
    composite = _extension(certificate, COMPOSITE_DEVICE_ID)
    if composite is not None:
        return decode_composite(composite)
    dice = _extension(certificate, DICE_TCB_INFO)
    return b"" if dice is None else decode_dice(dice)


def decode_composite(der: bytes) -> bytes:
    """Return the firmware id of a CompositeDeviceID.

    Raises:
        MalformedEvidence: not of its form.
    """
    reader = Reader(_content(Reader(der, "device id"), _SEQUENCE), "device id")
    _content(reader, _INTEGER, last=False)
    _content(reader, _SEQUENCE, last=False)
    return _decode_fwid(reader)


def decode_dice(der: bytes) -> bytes:
    """Return the first firmware id of a DiceTcbInfo; empty if it has none.

    Raises:
        MalformedEvidence: not of its form.
    """
    reader = Reader(_content(Reader(der, "TCB info"), _SEQUENCE), "TCB info")
    while not reader.exhausted:
        tag, content = read_der(reader)
        if tag == _FWIDS:
            return _decode_fwid(Reader(content, "firmware ids"), last=False)
    return b""


def _decode_fwid(reader: Reader, *, last: bool = True) -> bytes:
    inner = Reader(_content(reader, _SEQUENCE, last=last), "firmware id")
    read_der(inner)
    return _content(inner, _OCTETS)


def _content(reader: Reader, tag: int, *, last: bool = True) -> bytes:
    found, content = read_der(reader)
    if found != tag:
        raise MalformedEvidence(f"DER: tag {found:#x} in place of {tag:#x}")
    if last:
        reader.end()
    return content


def _extension(certificate: Certificate, oid: ObjectIdentifier) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_oid(oid).value.public_bytes()
    except ExtensionNotFound:
        return None
