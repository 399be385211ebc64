"""The verification of one GPU's report, up to NVIDIA's root for devices.

The chain has five certificates: the attestation key's (it signs the report, and firmware derives
it), the device's own (one a chip, made when the chip is), the provisioner's, the chip family's, the
root. The first two come out of the GPU.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import Certificate, ExtensionNotFound, KeyUsage
from cryptography.x509.oid import NameOID

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier import certificates
from attestation.verifier.nvidia import report as report_format
from attestation.verifier.nvidia.claims import GpuClaims
from attestation.verifier.nvidia.firmware import firmware_id
from attestation.verifier.nvidia.report import Report

CHAIN_LENGTH = 5

_CHIP = re.compile(r"(G[A-Z][0-9]{3}) .*")
_ARCHITECTURES = {"GH": "hopper", "GB": "blackwell"}
UNKNOWN = "unknown"


def verify(report: bytes, chain: bytes, *, roots: frozenset[bytes], at: int) -> GpuClaims:
    """Verify a report: its format, its chain to a pinned root, its signature, its firmware id.

    Whether the nonce is the right one and the GPU acceptable is for the caller to say.

    Args:
        report: request and response, as NVIDIA's library returns them.
        chain: the five certificates as PEM, the attestation key's first, the root last.
        roots: SHA-256 of the DER of each root that is trusted.
        at: unix seconds.

    Raises:
        Refused: a check did not hold; its code says which.
    """
    return verify_under(report, load_chain(chain), roots=roots, at=at)


def verify_under(
    report: bytes, chain: tuple[Certificate, ...], *, roots: frozenset[bytes], at: int
) -> GpuClaims:
    """Verify a report under a chain of `load_chain`; all else as `verify`.

    Raises:
        Refused: a check did not hold; its code says which.
    """
    parsed = parse(report)
    key = check_chain(chain, roots=roots, at=at)
    _check_signature(parsed, key)
    return _claims(parsed, chain, _check_firmware_id(parsed, chain[0]), len(report))


def parse(report: bytes) -> Report:
    """Decode a report.

    Raises:
        Refused: GPU_REPORT_MALFORMED.
    """
    try:
        return report_format.decode(report)
    except MalformedEvidence as error:
        raise Refused(Code.GPU_REPORT_MALFORMED, str(error)) from error


def load_chain(chain: bytes) -> tuple[Certificate, ...]:
    """Load a chain of five certificates.

    Raises:
        Refused: GPU_CHAIN_MALFORMED, GPU_CHAIN_LENGTH.
    """
    try:
        loaded = certificates.load(chain, at_most=2 * CHAIN_LENGTH)
    except MalformedEvidence as error:
        raise Refused(Code.GPU_CHAIN_MALFORMED, str(error)) from error
    if len(loaded) != CHAIN_LENGTH:
        raise Refused(Code.GPU_CHAIN_LENGTH, f"{len(loaded)} certificates, not {CHAIN_LENGTH}")
    return loaded


def check_chain(
    chain: Sequence[Certificate], *, roots: frozenset[bytes], at: int
) -> ec.EllipticCurvePublicKey:
    """Check a chain up to its root and its dates; return its first key, which may sign reports.

    Raises:
        Refused: with the code of the check that did not hold.
    """
    certificates.check_chain(
        chain, roots=roots, code_root=Code.GPU_ROOT_UNKNOWN, code_signature=Code.GPU_CHAIN_BAD
    )
    certificates.check_dates(
        chain,
        at=at,
        code_future=Code.GPU_CERTIFICATE_NOT_YET_VALID,
        code_expired=Code.GPU_CERTIFICATE_EXPIRED,
    )
    key = signing_key(chain[0])
    if key is None:
        raise Refused(Code.GPU_KEY_UNSUITABLE, "the attestation key is not one for signatures")
    return key


def signing_key(certificate: Certificate) -> ec.EllipticCurvePublicKey | None:
    """Return a certificate's key if it is one on P-384 that may make signatures, else None."""
    key = certificate.public_key()
    try:
        usage = certificate.extensions.get_extension_for_class(KeyUsage).value
    except ExtensionNotFound:
        return None
    if not usage.digital_signature or not isinstance(key, ec.EllipticCurvePublicKey):
        return None
    return key if isinstance(key.curve, ec.SECP384R1) else None


def _check_signature(report: Report, key: ec.EllipticCurvePublicKey) -> None:
    half = len(report.signature) // 2
    r, s = (int.from_bytes(part) for part in (report.signature[:half], report.signature[half:]))
    try:
        key.verify(encode_dss_signature(r, s), report.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise Refused(Code.GPU_SIGNATURE_BAD, "the report's signature does not verify") from error


def _check_firmware_id(report: Report, certificate: Certificate) -> bytes:
    try:
        certified = firmware_id(certificate)
    except MalformedEvidence as error:
        raise Refused(Code.GPU_CHAIN_MALFORMED, str(error)) from error
    stated = report.opaque_data.firmware_id
    if stated and stated != certified:
        reason = "the report states another firmware than its certificate"
        raise Refused(Code.GPU_FIRMWARE_ID_MISMATCH, reason)
    return certified


def _claims(
    report: Report, chain: Sequence[Certificate], certified: bytes, length: int
) -> GpuClaims:
    opaque, chip = report.opaque_data, _chip(chain[0])
    return GpuClaims(
        chip=chip,
        architecture=_ARCHITECTURES.get(chip[:2], UNKNOWN),
        device=_digest(chain[1]),
        attestation_key=_digest(chain[0]),
        nonce=report.nonce,
        driver_version=opaque.driver_version,
        vbios_version=opaque.vbios_version,
        multi_gpu_mode=opaque.multi_gpu_mode,
        nvdec0_disabled=opaque.nvdec0_disabled,
        measurements=report.measurements,
        firmware_id=certified,
        signature_offset=len(report.signed),
        length=length,
    )


def _chip(certificate: Certificate) -> str:
    # The same root certifies NVSwitches and more: only the name says that this is a GPU.
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    match = _CHIP.fullmatch(str(names[0].value)) if len(names) == 1 else None
    return match[1] if match else ""


def _digest(certificate: Certificate) -> bytes:
    key = certificate.public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()
