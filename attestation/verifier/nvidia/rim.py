"""Reference integrity manifests: the measurements that a driver or a VBIOS should have, signed.

A manifest is a SWID tag (ISO/IEC 19770-2) in the profile of the Trusted Computing Group, with an
enveloped XML signature (W3C XML Signature 1.1):

    SoftwareIdentity
        Meta       colloquialVersion: the version it is for; product: the chip
        Payload    Resource: index, active, alternatives, size, Hash0, Hash1, ... (SHA-384)
        Signature  KeyInfo: the chain, its signer's certificate first, the root last

Of what XML and its signatures can do, one form is accepted: UTF-8 without a document type, one
signature, a child of the root, over the whole document and nothing else, by ECDSA on P-384 with
SHA-384. What is read is what was signed: the canonical form that the verification returns. The
same manifest can be spelled in many ways; its bytes identify nothing.

Signers are short-lived, and a manifest carries no time of its own. So it is checked at a time that
the caller gives: now, or when the manifest was logged (`GpuPolicy.rim_time` names the rule).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from cryptography.x509 import Certificate
from lxml import etree  # type: ignore[import-untyped]  # it has no types
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import InvalidSignature, SignXMLException
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier import certificates
from attestation.verifier.nvidia import manifest
from attestation.verifier.nvidia.manifest import Golden
from attestation.verifier.nvidia.verify import signing_key

MAX_CHAIN_LENGTH = 6
"""Certificates. NVIDIA's have four."""


@dataclass(frozen=True)
class Rim:
    """A manifest whose signature has been traced to a pinned root.

    Attributes:
        golden: what it states.
        chain: its signer's certificate first, the root last.
    """

    golden: Golden
    chain: tuple[Certificate, ...]

    def to_json(self) -> dict[str, object]:
        """Return the claims for people and programs; bytes in hexadecimal."""
        measurements = sorted(self.golden.measurements.items())
        return {
            "version": self.golden.version,
            "product": self.golden.product,
            "signer": self.chain[0].subject.rfc4514_string(),
            "measurements": {
                str(index): sorted(value.hex() for value in values)
                for index, values in measurements
            },
        }


def verify(xml: bytes, *, roots: frozenset[bytes], at: int) -> Rim:
    """Verify a manifest: its form, its signer's chain to a pinned root, its signature.

    Args:
        xml: the SWID tag.
        roots: SHA-256 of the DER of each root that is trusted.
        at: unix seconds, at which the chain must have been valid.

    Raises:
        Refused: a check did not hold; its code says which.
    """
    try:
        chain = _load_chain(manifest.decode_document(xml))
        _check_chain(chain, roots=roots, at=at)
        golden = manifest.read_golden(_signed(xml, chain[0], at))
    except MalformedEvidence as error:
        raise Refused(Code.GPU_RIM_MALFORMED, str(error)) from error
    return Rim(golden, chain)


def _load_chain(ders: Sequence[bytes]) -> tuple[Certificate, ...]:
    if not 1 <= len(ders) <= MAX_CHAIN_LENGTH:
        raise MalformedEvidence(f"manifest: {len(ders)} certificates")
    return tuple(certificates.load(der, at_most=1)[0] for der in ders)


def _check_chain(chain: Sequence[Certificate], *, roots: frozenset[bytes], at: int) -> None:
    certificates.check_chain(
        chain,
        roots=roots,
        code_root=Code.GPU_RIM_ROOT_UNKNOWN,
        code_signature=Code.GPU_RIM_CHAIN_BAD,
    )
    certificates.check_dates(
        chain, at=at, code_future=Code.GPU_RIM_NOT_YET_VALID, code_expired=Code.GPU_RIM_EXPIRED
    )
    if signing_key(chain[0]) is None:
        raise Refused(Code.GPU_RIM_KEY_UNSUITABLE, "the signer's key is not one for signatures")


def _signed(xml: bytes, signer: Certificate, at: int) -> manifest.Element:
    """Check the signature; return the root of what it is over."""
    configuration = SignatureConfiguration(
        location="./",
        signature_methods=frozenset({SignatureMethod.ECDSA_SHA384}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA384}),
        verification_time=datetime.fromtimestamp(at, UTC),
    )
    try:
        result = XMLVerifier().verify(
            xml,
            x509_cert=signer,
            expect_config=configuration,
            parser=manifest.parser(),
            # Its form was checked, and more strictly than the schema, which would be read from a
            # file.
            validate_schema=False,
        )
    except InvalidSignature as error:
        reason = "the manifest's signature does not verify"
        raise Refused(Code.GPU_RIM_SIGNATURE_BAD, reason) from error
    except (SignXMLException, etree.LxmlError, ValueError) as error:
        raise MalformedEvidence("manifest: has no canonical form") from error
    return cast("VerifyResult", result).signed_xml  # one reference, one result
