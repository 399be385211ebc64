"""The verification of an SNP report: from its signature to a pinned root of AMD's.

    ARK  signs  ASK   signs  VCEK  signs  report        the chip's own key
    ARK  signs  ASVK  signs  VLEK  signs  report        a cloud provider's key

and what the certificates say of the chip (product, id, firmware) is what the report says. AMD's
revocation list is the ARK's, and names ASKs and ASVKs: no list names a VCEK. One that must no
longer be trusted is of firmware that is too old, which the policy's minimum TCB refuses.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509 import Certificate, CertificateRevocationList

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier import certificates
from attestation.verifier.amd.claims import CRL_CODES, SnpClaims
from attestation.verifier.amd.endorsement import Endorsement, common_name
from attestation.verifier.amd.product import product_of_cpu
from attestation.verifier.amd.report import Report, SigningKey

_CHAIN = 3


def verify(
    report: bytes,
    chain: Sequence[bytes],
    crl: bytes = b"",
    *,
    roots: frozenset[bytes],
    at: int,
) -> SnpClaims:
    """Verify a report, all dates included.

    Args:
        report: the 1184 bytes.
        chain: VCEK or VLEK, ASK or ASVK, and ARK in any order and any number of pieces, each DER
            or PEM.
        crl: the ARK's revocation list, DER or PEM; empty: revocation stays unchecked, and the
            claims say so.
        roots: fingerprints of the roots that the chain may lead to.
        at: unix seconds.

    Raises:
        Refused: with one code for each check.
    """
    claims = authenticate(report, chain, crl, roots=roots)
    claims.check_dates(at=at)
    return claims


def authenticate(
    report: bytes, chain: Sequence[bytes], crl: bytes = b"", *, roots: frozenset[bytes]
) -> SnpClaims:
    """Verify a report as `verify` does, but for the dates: `SnpClaims.check_dates` is still due.

    Raises:
        Refused: with one code for each check.
    """
    decoded = _decode(report)
    leaf, intermediate, root = certified = _load_chain(chain)
    certificates.check_chain(
        certified, roots=roots, code_root=Code.SNP_ROOT_UNKNOWN, code_signature=Code.SNP_CHAIN_BAD
    )
    revocation = _check_revocation(crl, root, intermediate) if crl else None
    endorsement = Endorsement.of(leaf)
    _check_line(endorsement, intermediate, root)
    if decoded.signing_key is not endorsement.kind:
        reason = f"the report names a {decoded.signing_key.name}; the certificate is another's"
        raise Refused(Code.SNP_SIGNING_KEY_MISMATCH, reason)
    _check_signature(decoded, endorsement)
    claims = SnpClaims(decoded, endorsement, certified, revocation)
    _check_product(claims)
    _check_tcb(claims)
    _check_chip_id(decoded, endorsement)
    return claims


def _decode(report: bytes) -> Report:
    try:
        return Report.decode(report)
    except MalformedEvidence as error:
        raise Refused(Code.SNP_MALFORMED, str(error)) from error


def _load_chain(pieces: Sequence[bytes]) -> tuple[Certificate, Certificate, Certificate]:
    """Load three certificates; put the one that signs itself last, and its subject before it."""
    try:
        found = [each for piece in pieces for each in certificates.load(piece, at_most=_CHAIN)]
    except MalformedEvidence as error:
        raise Refused(Code.SNP_CHAIN_MALFORMED, str(error)) from error
    roots = [each for each in found if each.subject == each.issuer]
    if len(found) != _CHAIN or len(roots) != 1:
        raise Refused(Code.SNP_CHAIN_MALFORMED, "not a leaf, an intermediate and a root")
    one, other = (each for each in found if each is not roots[0])
    if one.issuer == roots[0].subject:
        one, other = other, one
    return one, other, roots[0]


def _check_revocation(
    data: bytes, root: Certificate, intermediate: Certificate
) -> CertificateRevocationList:
    try:
        crl = certificates.load_crl(data)
    except MalformedEvidence as error:
        raise Refused(Code.SNP_CRL_MALFORMED, str(error)) from error
    certificates.check_revocation(crl, root, [intermediate, root], codes=CRL_CODES)
    return crl


def _check_line(endorsement: Endorsement, *issuers: Certificate) -> None:
    if tuple(map(common_name, issuers)) != endorsement.issuers():
        reason = "the key's product is not the one whose keys its issuers sign"
        raise Refused(Code.SNP_PRODUCT_MISMATCH, reason)


def _check_signature(report: Report, endorsement: Endorsement) -> None:
    signature = encode_dss_signature(*report.signature)
    try:
        endorsement.public_key.verify(signature, report.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise Refused(Code.SNP_SIGNATURE_BAD, "the report's signature does not verify") from error


def _check_product(claims: SnpClaims) -> None:
    family, model, _ = claims.report.cpuid
    if claims.report.version >= 3 and product_of_cpu(family, model) is not claims.product:
        reason = f"a processor of family {family:#x}, model {model:#x} is no {claims.product}"
        raise Refused(Code.SNP_PRODUCT_MISMATCH, reason)


def _check_tcb(claims: SnpClaims) -> None:
    for name, tcb in claims.tcbs.items():
        if any(tcb.reserved):
            raise Refused(Code.SNP_MALFORMED, f"a reserved byte of the {name} TCB is not zero")
    if claims.tcbs["reported"] != claims.endorsement.tcb:
        reason = "the reported TCB is not the one that the signing key was derived for"
        raise Refused(Code.SNP_TCB_MISMATCH, reason)


def _check_chip_id(report: Report, endorsement: Endorsement) -> None:
    if endorsement.kind is SigningKey.VLEK or report.chip_id_masked:
        return
    if report.chip_id != endorsement.hardware_id:
        raise Refused(Code.SNP_CHIP_ID_MISMATCH, "the signing key is another chip's")
