"""The XML of a reference integrity manifest: its one accepted form, and the values in it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lxml import etree  # type: ignore[import-untyped]  # it has no types

from attestation.errors import Code, MalformedEvidence, Refused

MAX_LENGTH = 256 << 10
"""Bytes. NVIDIA's have about 20 KiB; 255 measurements with several hashes each have 128."""

SWID = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
DS = "{http://www.w3.org/2000/09/xmldsig#}"
SHA384 = "{http://www.w3.org/2001/04/xmlenc#sha384}"

HASH_LENGTH = 48
_MAX_INDEX = 254
_MAX_ALTERNATIVES = 64
_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")
_HASH = re.compile(r"[0-9A-Fa-f]{96}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.]{0,62}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")

_ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
_DIGEST_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_CANONICAL = frozenset(
    {
        "http://www.w3.org/2006/12/xml-c14n11",
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
        "http://www.w3.org/2001/10/xml-exc-c14n#",
    }
)
"""The canonical forms without comments, inclusive (two versions) and exclusive."""

Element = Any
"""An element of lxml, which has no types."""


@dataclass(frozen=True)
class Golden:
    """What a manifest states.

    Attributes:
        version: the version of the driver or the VBIOS that it is for.
        product: the chip it is for; empty if it does not say.
        measurements: for each index, counted from zero, the values that are as they should be.
    """

    version: str
    product: str
    measurements: Mapping[int, frozenset[bytes]]


def parser() -> Element:
    """Return a parser that fetches nothing, expands nothing, and reads UTF-8 only."""
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
    )


def decode_document(data: bytes) -> tuple[bytes, ...]:
    """Check that a document has the one accepted form; return its chain's certificates, DER.

    Nothing is verified, and nothing but the form is looked at.

    Raises:
        MalformedEvidence: too long, not UTF-8 or not XML, with a document type, not a SWID tag, or
            a signature that is not one, in its place, over the whole document.
        Refused: GPU_RIM_ALGORITHM, a signature of another kind.
    """
    root = _parse(data)
    if root.tag != f"{SWID}SoftwareIdentity":
        raise MalformedEvidence("manifest: not a SWID tag")
    signatures = list(root.iter(f"{DS}Signature"))
    if len(signatures) != 1 or signatures[0].getparent() is not root:
        raise MalformedEvidence("manifest: not one signature, a child of the root")
    signed_info, value, key_info = _children(
        signatures[0], f"{DS}SignedInfo", f"{DS}SignatureValue", f"{DS}KeyInfo"
    )
    _check_signed_info(signed_info)
    if len(_binary(value)) != 2 * HASH_LENGTH:
        raise MalformedEvidence("manifest: a signature of another length")
    (x509_data,) = _children(key_info, f"{DS}X509Data")
    return tuple(_binary(each) for each in _all(x509_data, f"{DS}X509Certificate"))


def read_golden(root: Element) -> Golden:
    """Read the values of a manifest from what was signed.

    Raises:
        MalformedEvidence: a part missing, twice, or not of its form; reference values of a kind
            that is not understood, which must not be passed over; or no value at all.
    """
    (meta,) = _all(root, f"{SWID}Meta", exactly=1)
    (payload,) = _all(root, f"{SWID}Payload", exactly=1)
    version, product = meta.get("colloquialVersion", ""), meta.get("product", "")
    if not _VERSION.fullmatch(version) or not _VERSION.fullmatch(product or "0"):
        raise MalformedEvidence("manifest: states no version, or no proper product")
    measurements: dict[int, frozenset[bytes]] = {}
    seen = set()
    for resource in payload.iterchildren():
        index, active, values = _read_resource(resource)
        if index in seen:
            raise MalformedEvidence(f"manifest: index {index} twice")
        seen.add(index)
        if active:
            measurements[index] = values
    if not measurements:
        raise MalformedEvidence("manifest: no measurement is active")
    return Golden(version, product, measurements)


def _parse(data: bytes) -> Element:
    if len(data) > MAX_LENGTH:
        raise MalformedEvidence("manifest: too long")
    # In UTF-8, which the parser is held to, a document type can be written in one way only. Some
    # entities are expanded while parsing, whatever a parser is told: so none is ever parsed.
    if b"<!DOCTYPE" in data:
        raise MalformedEvidence("manifest: a document type")
    try:
        return etree.fromstring(data, parser())
    except (etree.LxmlError, ValueError) as error:
        raise MalformedEvidence("manifest: not XML") from error


def _check_signed_info(signed_info: Element) -> None:
    canonical, method, reference = _children(
        signed_info, f"{DS}CanonicalizationMethod", f"{DS}SignatureMethod", f"{DS}Reference"
    )
    transforms, digest, value = _children(
        reference, f"{DS}Transforms", f"{DS}DigestMethod", f"{DS}DigestValue"
    )
    if reference.get("URI") != "":
        raise MalformedEvidence("manifest: the signature is not over the whole document")
    if len(_binary(value)) != HASH_LENGTH:
        raise MalformedEvidence("manifest: a digest of another length")
    _check_algorithm(canonical, _CANONICAL)
    _check_algorithm(method, {_ECDSA_SHA384})
    _check_algorithm(digest, {_DIGEST_SHA384})
    enveloped, form = _children(transforms, f"{DS}Transform", f"{DS}Transform")
    _check_algorithm(enveloped, {_ENVELOPED})
    _check_algorithm(form, _CANONICAL)


def _check_algorithm(element: Element, accepted: Iterable[str]) -> None:
    # A parameter (a length, a list of prefixes) would be a child.
    if element.get("Algorithm") not in accepted or len(element):
        raise Refused(Code.GPU_RIM_ALGORITHM, "the manifest is signed in a way that is not taken")


def _read_resource(resource: Element) -> tuple[int, bool, frozenset[bytes]]:
    if resource.tag != f"{SWID}Resource" or resource.get("type") != "Measurement":
        raise MalformedEvidence("manifest: a reference value that is not a measurement")
    index = _number(resource, "index", _MAX_INDEX)
    active = resource.get("active")
    if active not in {"True", "False"} or resource.get("size") != str(HASH_LENGTH):
        raise MalformedEvidence(f"manifest: measurement {index} has no proper state or size")
    count = _number(resource, "alternatives", _MAX_ALTERNATIVES)
    values = [resource.get(f"{SHA384}Hash{number}", "") for number in range(count)]
    hashes = [name for name in resource.keys() if name.startswith(SHA384)]  # noqa: SIM118 - lxml
    if len(hashes) != count or not count or not all(map(_HASH.fullmatch, values)):
        raise MalformedEvidence(f"manifest: measurement {index} has not the hashes it counts")
    return index, active == "True", frozenset(map(bytes.fromhex, values))


def _number(element: Element, name: str, at_most: int) -> int:
    text = element.get(name, "")
    if not _NUMBER.fullmatch(text) or int(text) > at_most:
        raise MalformedEvidence(f"manifest: {name} is not a number in its range")
    return int(text)


def _children(element: Element, *tags: str) -> list[Element]:
    found = [child for child in element.iterchildren() if child.tag is not etree.Comment]
    if [child.tag for child in found] != list(tags):
        raise MalformedEvidence("manifest: the signature has not its one form")
    return found


def _all(element: Element, tag: str, exactly: int | None = None) -> list[Element]:
    found = list(element.iterchildren(tag))
    if exactly is not None and len(found) != exactly:
        raise MalformedEvidence("manifest: a part is missing or there twice")
    return found


def _binary(element: Element) -> bytes:
    text = "".join((element.text or "").split())
    if len(element) or not _BASE64.fullmatch(text) or len(text) % 4:
        raise MalformedEvidence("manifest: not base64")
    return base64.b64decode(text)
