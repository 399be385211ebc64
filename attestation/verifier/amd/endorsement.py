"""The certificate of the key that signs reports (AMD 57230, section "Certificate extensions").

    1.3.6.1.4.1.3704.1.2     product name, IA5String
    1.3.6.1.4.1.3704.1.3.N   version of one firmware component, INTEGER
    1.3.6.1.4.1.3704.1.4     hardware id, only of a VCEK: the bare bytes (or an OCTET STRING)
    1.3.6.1.4.1.3704.1.5     cloud service provider, only of a VLEK, IA5String

A VCEK is derived in the chip from its secret and its firmware's versions. A VLEK is handed to the
machines of a provider, which thereby stay anonymous; it proves versions, but no particular chip.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import Certificate, UnrecognizedExtension
from cryptography.x509.oid import NameOID

from attestation.errors import Code, Refused
from attestation.verifier.amd.product import (
    CHIP_ID_LENGTH,
    EXTENSIONS,
    Product,
    Tcb,
    product_of_name,
)
from attestation.verifier.amd.report import SigningKey

_ARC = "1.3.6.1.4.1.3704.1"
PRODUCT_NAME = f"{_ARC}.2"
COMPONENT = f"{_ARC}.3"
HARDWARE_ID = f"{_ARC}.4"
PROVIDER = f"{_ARC}.5"
_INTEGER, _OCTET_STRING, _IA5_STRING = b"\x02", b"\x04", b"\x16"
_RESERVED = frozenset({4, 5, 6, 7})
"""Components without a meaning as yet. A certificate may leave them out: then they are zero."""


@dataclass(frozen=True)
class Endorsement:
    """What AMD says of the key that signed a report.

    Attributes:
        kind: VCEK or VLEK.
        product_name: as written.
        tcb: the firmware versions under which the key exists.
        hardware_id: the chip's, padded with zeros to 64 bytes; empty of a VLEK.
        provider: the cloud service provider's name; empty of a VCEK.
        public_key: the key, on P-384.
    """

    kind: SigningKey
    product_name: str
    tcb: Tcb
    hardware_id: bytes
    provider: str
    public_key: ec.EllipticCurvePublicKey

    @property
    def product(self) -> Product:
        """The line of processors."""
        return self.tcb.product

    @classmethod
    def of(cls, certificate: Certificate) -> Endorsement:
        """Read a certificate whose chain has been checked.

        Raises:
            Refused: an extension is missing or malformed, or the product is not known.
        """
        values = _extensions(certificate)
        name = _text(values, PRODUCT_NAME)
        product = product_of_name(name)
        if product is None:
            raise Refused(Code.SNP_PRODUCT_UNSUPPORTED, f"a processor named {name!r}")
        kind = _kind(certificate)
        is_vcek = kind is SigningKey.VCEK
        if (HARDWARE_ID in values) != is_vcek or (PROVIDER in values) == is_vcek:
            raise _malformed("it names chip or provider, but is of the other kind")
        return cls(
            kind=kind,
            product_name=name,
            tcb=Tcb(product, bytes(_component(values, n) for n in EXTENSIONS[product])),
            hardware_id=_hardware_id(values, product) if is_vcek else b"",
            provider="" if is_vcek else _text(values, PROVIDER),
            public_key=_public_key(certificate),
        )

    def issuers(self) -> tuple[str, str]:
        """Return the common names of the certificates above: ASK or ASVK, then ARK."""
        line = self.product.capitalize()
        vlek = "VLEK-" if self.kind is SigningKey.VLEK else ""
        return f"SEV-{vlek}{line}", f"ARK-{line}"


def common_name(certificate: Certificate) -> str:
    """Return the common name of a certificate's subject; empty if it has none or several."""
    match certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        case [attribute]:
            return str(attribute.value)
    return ""


def _malformed(reason: str) -> Refused:
    return Refused(Code.SNP_ENDORSEMENT_MALFORMED, f"the signing key's certificate: {reason}")


def _extensions(certificate: Certificate) -> dict[str, bytes]:
    return {
        extension.oid.dotted_string: extension.value.value
        for extension in certificate.extensions
        if isinstance(extension.value, UnrecognizedExtension)
    }


def _kind(certificate: Certificate) -> SigningKey:
    match common_name(certificate):
        case "SEV-VCEK":
            return SigningKey.VCEK
        case "SEV-VLEK":
            return SigningKey.VLEK
    raise _malformed("neither a VCEK nor a VLEK")


def _public_key(certificate: Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
        return key
    raise _malformed("its key is not on P-384")


def _text(values: dict[str, bytes], oid: str) -> str:
    content = _element(values.get(oid, b""), _IA5_STRING)
    if not content or not content.isascii():
        raise _malformed(f"{oid} is not a text")
    return content.decode("ascii")


def _component(values: dict[str, bytes], number: int) -> int:
    value = values.get(f"{COMPONENT}.{number}")
    if value is None and number in _RESERVED:
        return 0
    content = _element(value or b"", _INTEGER)
    # DER: one byte, or two of which the first keeps the sign of a large second one.
    if len(content) == 1 and content[0] < 0x80:
        return content[0]
    if len(content) == 2 and content[0] == 0 and content[1] >= 0x80:
        return content[1]
    raise _malformed(f"component {number} is not a number from 0 to 255")


def _hardware_id(values: dict[str, bytes], product: Product) -> bytes:
    value, length = values[HARDWARE_ID], CHIP_ID_LENGTH[product]
    if len(value) == length + 2:
        value = _element(value, _OCTET_STRING)
    if len(value) != length:
        raise _malformed("the hardware id has another length")
    return value.ljust(64, b"\x00")


def _element(value: bytes, tag: bytes) -> bytes:
    """Return the content of a short DER element that is all of `value`; else nothing."""
    if value[:1] == tag and value[1:2] == bytes([len(value) - 2]) and len(value) < 130:
        return value[2:]
    return b""
