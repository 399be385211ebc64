"""SYNTHESISED: NVIDIA GPUs, manifests and OCSP responses under roots of the tests'.

They have the formats of the real ones and prove nothing about any hardware.
"""

import hashlib
import struct
from dataclasses import dataclass, field
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from lxml import etree
from signxml import XMLSigner
from signxml.algorithms import CanonicalizationMethod

from tests.support.evidence.authority import ca_extensions, date, ec_key, opaque, root, tlv

NOW = 1_800_000_000
NONCE = bytes(range(32))
DRIVER, VBIOS = "550.90.07", "96.00.9F.00.01"
MEASUREMENTS = {i: hashlib.sha384(f"measurement {i}".encode()).digest() for i in range(1, 65)}
FIRMWARE_ID = hashlib.sha384(b"firmware").digest()
OPAQUE = {
    6: bytes.fromhex("009f009601000000"),
    15: b"882\x00\x00\x00\x00\x00\x00",
    17: b"1010\x00",
    18: b"0200\x00",
    3: DRIVER.encode() + b"\x00",
    11: b"\xaa",
    20: FIRMWARE_ID,
    21: b"\x55",
    34: b"\x01\x00",
    36: b"\x00\x00",
    99: b"of no known meaning",
}
ECDSA_SHA384 = bytes.fromhex("2a8648ce3d040303")
SHA384_OID = tlv(6, bytes.fromhex("608648016503040202"))
SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
SHA384 = "http://www.w3.org/2001/04/xmlenc#sha384"


@cache
def device_root():
    return root("Device Identity CA of the tests", serial=11)


@cache
def rim_root():
    return root("Manifest CA of the tests", serial=21)


@cache
def roots():
    return frozenset({device_root().fingerprint, rim_root().fingerprint})


def signing(*, digital_signature=True):
    usage = x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=not digital_signature,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return usage, True


def fwid(digest=FIRMWARE_ID):
    return tlv(0x30, SHA384_OID + tlv(4, digest))


def composite(digest=FIRMWARE_ID):
    """The extension of Hopper's certificates."""
    spki = (
        ec_key("a device")
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    return opaque("2.23.133.5.4.1", tlv(0x30, tlv(2, b"\x01") + spki + fwid(digest)))


def dice(digest=FIRMWARE_ID):
    """The extension of Blackwell's certificates."""
    fields = tlv(0x80, b"NVIDIA") + tlv(0xA6, fwid(digest) + fwid(bytes(48))) + tlv(0x89, b"\x00")
    return opaque("2.23.133.5.4.1.1", tlv(0x30, fields))


def attestation_key(
    name="one",
    chip="GH100",
    *,
    firmware="",
    extensions=None,
    key=None,
    common_name=None,
    **options,
):
    """The certificate of a GPU's attestation key, and the chain above it."""
    family = device_root().issue(f"{chip} Identity", extensions=ca_extensions(), serial=12)
    provisioner = family.issue(f"{chip} Provisioner", extensions=ca_extensions(), serial=13)
    device = provisioner.issue(
        f"{chip} A01 GSP BROM",
        key=ec_key(f"device {chip} {name}"),
        extensions=ca_extensions(crl_sign=False),
        serial=1000 + int.from_bytes(name.encode()[:8]),
    )
    stated = dice() if chip.startswith("GB") else composite()
    return device.issue(
        common_name or f"{chip} A01 GSP FMC LF",
        key=key or ec_key(f"attestation {chip} {name} {firmware}"),
        extensions=(signing(), stated) if extensions is None else extensions,
        serial=15,
        **options,
    )


def pem(holder):
    return b"".join(each.public_bytes(Encoding.PEM) for each in holder.chain)


def block(index, value, *, specification=1, size=None):
    inner = struct.pack("<BH", 1, len(value)) + value
    return struct.pack("<BBH", index, specification, size or len(inner)) + inner


def tlvs(fields):
    return b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in fields)


@dataclass
class Report:
    """A report whose every part can be made wrong before it is signed."""

    nonce: bytes = NONCE
    request_header: bytes = bytes.fromhex("11e001ff")
    slot: int = 0
    response_header: bytes = bytes.fromhex("11600000")
    measurements: dict = field(default_factory=lambda: dict(MEASUREMENTS))
    blocks: bytes | None = None
    count: int | None = None
    opaque_fields: dict = field(default_factory=lambda: dict(OPAQUE))
    opaque: bytes | None = None
    trailing: bytes = b""

    @property
    def signed(self):
        measured = self.measurements.items()
        blocks = b"".join(block(*m) for m in measured) if self.blocks is None else self.blocks
        count = len(self.measurements) if self.count is None else self.count
        opaque_data = tlvs(self.opaque_fields.items()) if self.opaque is None else self.opaque
        return b"".join(
            (
                *(self.request_header, self.nonce, bytes([self.slot])),
                *(self.response_header, bytes([count]), len(blocks).to_bytes(3, "little"), blocks),
                *(b"\x07" * 32, len(opaque_data).to_bytes(2, "little"), opaque_data),
            )
        )

    def encode(self, key=None):
        """Sign with the attestation key's private half."""
        key = key or ec_key("attestation GH100 one ")
        r, s = decode_dss_signature(key.sign(self.signed, ec.ECDSA(hashes.SHA384())))
        return self.signed + r.to_bytes(48) + s.to_bytes(48) + self.trailing


def rim_signer(name="Signer of the tests", *, extensions=None, **options):
    family = rim_root().issue("Manifests of GH100", extensions=ca_extensions(), serial=22)
    made = (signing(),) if extensions is None else extensions
    return family.issue(name, extensions=made, serial=23, **options)


def golden(indexes):
    """What a report with the ordinary measurements matches, for these indexes from zero."""
    return {index: [MEASUREMENTS[index + 1]] for index in indexes}


DRIVER_INDEXES, VBIOS_INDEXES = range(20, 41), (1, 2, 9, 11)


def resource(index, values, /, *, active="True", **changes):
    """One measurement of a manifest; a change to None takes the attribute away."""
    attributes = {
        "type": "Measurement",
        "index": str(index),
        "active": active,
        "alternatives": str(len(values)),
        **{f"{{{SHA384}}}Hash{number}": value.hex() for number, value in enumerate(values)},
        "name": f"Measurement_{index}",
        "size": "48",
        **changes,
    }
    element = etree.Element(f"{{{SWID}}}Resource", nsmap={"ns2": SHA384})
    for name, value in attributes.items():
        if value is not None:
            element.set(name, value)
    return element


def tag(version=DRIVER, measurements=None, *, resources=None, meta=1, product="GH100"):
    """An unsigned manifest."""
    made = etree.Element(f"{{{SWID}}}SoftwareIdentity", nsmap={None: SWID, "ns2": SHA384})
    made.set("name", "GH100")
    for _ in range(meta):
        element = etree.SubElement(made, f"{{{SWID}}}Meta", colloquialVersion=version)
        element.set("product", product)
    payload = etree.SubElement(made, f"{{{SWID}}}Payload")
    payload.append(etree.Comment("a comment says nothing"))
    if resources is None:
        values = golden(DRIVER_INDEXES) if measurements is None else measurements
        resources = [resource(0, [bytes(48)], active="False")]
        resources += [resource(index, list(golden_)) for index, golden_ in values.items()]
    payload.extend(resources)
    return made


def sign(made, signer=None, *, canonical=CanonicalizationMethod.CANONICAL_XML_1_1, **options):
    """Sign a manifest: the element with its signature."""
    signer = signer or rim_signer()
    options = {"signature_algorithm": "ecdsa-sha384", "digest_algorithm": "sha384", **options}
    xml_signer = XMLSigner(c14n_algorithm=canonical, **options)
    # The library adds a Transform for every form; `enveloped` alone is its default method.
    return xml_signer.sign(made, key=signer.key, cert=list(signer.chain))


def manifest(version=DRIVER, measurements=None, *, signer=None, **options):
    """A signed manifest, as bytes."""
    return etree.tostring(sign(tag(version, measurements, **options), signer))


def vbios_manifest(**options):
    return manifest(VBIOS, golden(VBIOS_INDEXES), **options)


def delegate(issuer, name="Responder of the tests", *, usages=None, critical=(), **options):
    usages = [ExtendedKeyUsageOID.OCSP_SIGNING] if usages is None else usages
    extensions = [signing(), *critical]
    if usages:
        extensions.append((x509.ExtendedKeyUsage(usages), False))
    return issuer.issue(name, extensions=tuple(extensions), serial=77, **options)


def ocsp_response(
    holder,
    *,
    status=ocsp.OCSPCertStatus.GOOD,
    this_update=NOW - 3600,
    next_update=NOW + 3600,
    responder=None,
    certificates=None,
    digest=None,
    id_digest=None,
    issuer=None,
    extensions=(),
):
    """A response about `holder`, by its issuer's delegate unless `responder` says otherwise."""
    responder = responder or delegate(holder.issuer)
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=holder.certificate,
            issuer=(issuer or holder.issuer).certificate,
            algorithm=id_digest or hashes.SHA256(),
            cert_status=status,
            this_update=date(this_update),
            next_update=None if next_update is None else date(next_update),
            revocation_time=date(this_update) if revoked else None,
            revocation_reason=x509.ReasonFlags.certificate_hold if revoked else None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
    )
    if certificates is None:
        certificates = [responder.certificate]
    if certificates:
        builder = builder.certificates(certificates)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    made = builder.sign(responder.key, digest or hashes.SHA384())
    return made.public_bytes(Encoding.DER)


def ocsp_signed(tbs, key=None, certificates=(), oid=ECDSA_SHA384):
    """A response of these bytes to be signed (RFC 6960, section 4.2.1), put together by hand."""
    signature = (key or ec_key("nobody")).sign(tbs, ec.ECDSA(hashes.SHA384()))
    listed = b"".join(each.public_bytes(Encoding.DER) for each in certificates)
    basic = tbs + tlv(0x30, tlv(6, oid)) + tlv(3, b"\x00" + signature)
    if listed:
        basic += tlv(0xA0, tlv(0x30, listed))
    kind = tlv(6, bytes.fromhex("2b0601050507300101"))
    response = tlv(0xA0, tlv(0x30, kind + tlv(4, tlv(0x30, basic))))
    return tlv(0x30, tlv(10, b"\x00") + response)


def ocsp_responses(holder, **options):
    """Responses about a holder and everybody above it but the root."""
    found = []
    while holder.issuer is not None:
        found.append(ocsp_response(holder, **options))
        holder = holder.issuer
    return b"".join(found)
