"""Azure's virtual TPM: a quote by a key that the machine's own hardware vouches for.

    hardware report (SNP or TDX)  binds  runtime data  holds  attestation key  signs  quote

The paravisor, which the hardware has measured, keeps the virtual TPM beside the guest: SNP's VMPL
0, which the guest (VMPL 2) is not. A report that the guest can ask for itself binds what it likes.

Evidence has the shapes of `attestation.verifier.tpm.azure_evidence`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier import certificates
from attestation.verifier.amd import snp
from attestation.verifier.amd.claims import SnpClaims
from attestation.verifier.intel import verify as intel
from attestation.verifier.intel.claims import IntelClaims
from attestation.verifier.intel.platform import measure as measure_td
from attestation.verifier.intel.quote import EnclaveReport
from attestation.verifier.tpm.algorithms import Algorithm
from attestation.verifier.tpm.azure_evidence import AzureEvidence
from attestation.verifier.tpm.claims import Provenance, TpmClaims, describe
from attestation.verifier.tpm.event_log import Registers
from attestation.verifier.tpm.hcl import AK_NAME, Hardware, HclReport, RuntimeData
from attestation.verifier.tpm.keys import Signature
from attestation.verifier.tpm.quote import check as check_quote
from attestation.verifier.tpm.quote import check_log

__all__ = ["AzureClaims", "AzureEvidence", "authenticate", "verify"]

_MAX_CHAIN = 3


@dataclass(frozen=True)
class AzureClaims:
    """Authentic evidence.

    Attributes:
        tpm: what the virtual TPM says.
        hardware: what the hardware says.
        launched: what the hardware has measured at launch: SNP's measurement, or that of the
            platform `tdx`.
        runtime: what the paravisor says.
        runtime_sha256: the SHA-256 of its text.
    """

    tpm: TpmClaims
    hardware: SnpClaims | IntelClaims
    launched: bytes
    runtime: RuntimeData
    runtime_sha256: bytes

    @property
    def tee(self) -> str:
        """`snp` or `tdx`."""
        return "snp" if isinstance(self.hardware, SnpClaims) else "tdx"

    def check_dates(self, *, at: int) -> None:
        """Check the hardware's chain and collateral at unix time `at`. Nothing else has dates.

        Raises:
            Refused: one is not valid yet, or not any more.
        """
        self.hardware.check_dates(at=at)

    def to_json(self) -> dict[str, object]:
        """Return the claims for a JSON text: bytes in hexadecimal."""
        attest = self.tpm.quotes[0].attest
        return {
            "tee": self.tee,
            "extraData": attest.extra_data.hex(),
            "pcrDigest": attest.attested.pcr_digest.hex(),
            "pcr_bank": describe(attest.attested.selection),
            "runtime_claims_sha256": self.runtime_sha256.hex(),
            "ak_kid": AK_NAME,
            "vm_configuration": dict(self.runtime.configuration),
            "user_data": self.runtime.user_data.hex(),
            "hardware": self.hardware.to_json(),
            **self.tpm.to_json(),
        }


def verify(
    evidence: bytes,
    *,
    chain: Sequence[bytes] = (),
    crl: bytes = b"",
    collateral: bytes = b"",
    event_log: bytes = b"",
    roots: frozenset[bytes],
    at: int,
) -> AzureClaims:
    """Verify Azure's evidence, all dates included.

    Args:
        evidence: JSON, in one of its shapes.
        chain: with SNP, the issuers of the VCEK (which may be among them): DER or PEM.
        crl: with SNP, the ARK's revocation list; empty: the claims say that it was not looked at.
        collateral: with TDX, Intel's.
        event_log: the firmware's log; or empty.
        roots: fingerprints of AMD's and Intel's roots.
        at: unix seconds.

    Raises:
        Refused: with one code for each check; those of the hardware's report are AMD's and Intel's.
    """
    claims = authenticate(
        evidence,
        chain=chain,
        crl=crl,
        collateral=collateral,
        event_log=event_log,
        roots=roots,
        at=at,
    )
    claims.check_dates(at=at)
    return claims


def authenticate(
    evidence: bytes,
    *,
    chain: Sequence[bytes] = (),
    crl: bytes = b"",
    collateral: bytes = b"",
    event_log: bytes = b"",
    roots: frozenset[bytes],
    at: int,
) -> AzureClaims:
    """Verify evidence as `verify` does, but for AMD's dates: `check_dates` is still due.

    Raises:
        Refused: with one code for each check.
    """
    decoded, report, runtime = _decode(evidence)
    quote = check_quote(
        decoded.message,
        Signature(Algorithm.RSASSA, Algorithm.SHA256, decoded.signature),
        runtime.attestation_key,
        _all_registers(decoded),
    )
    hardware: SnpClaims | IntelClaims
    if report.kind is Hardware.SNP:
        hardware, launched = _verify_snp(decoded, report, chain, crl, roots=roots)
    else:
        hardware, launched = _verify_tdx(decoded, report, collateral, roots=roots, at=at)
    events, booted = check_log(event_log, quote.registers)
    tpm = TpmClaims(
        (quote,),
        runtime.attestation_key,
        Provenance.HARDWARE,
        event_log=events,
        secure_boot=runtime.secure_boot if booted is None else booted,
    )
    return AzureClaims(tpm, hardware, launched, runtime, hashlib.sha256(report.runtime).digest())


def _decode(evidence: bytes) -> tuple[AzureEvidence, HclReport, RuntimeData]:
    try:
        decoded = AzureEvidence.decode(evidence)
        report = HclReport.parse(decoded.hcl_report)
        runtime = RuntimeData.parse(report.runtime)
    except MalformedEvidence as error:
        raise Refused(Code.AZURE_MALFORMED, str(error)) from error
    if (report.kind is Hardware.SNP) != bool(decoded.vcek):
        raise Refused(Code.AZURE_HARDWARE_MISMATCH, "what endorses it is of other hardware")
    return decoded, report, runtime


def _all_registers(evidence: AzureEvidence) -> Registers:
    return {"sha256": dict(enumerate(evidence.registers))}


def _verify_snp(
    evidence: AzureEvidence,
    report: HclReport,
    chain: Sequence[bytes],
    crl: bytes,
    *,
    roots: frozenset[bytes],
) -> tuple[SnpClaims, bytes]:
    claims = snp.authenticate(report.hardware, _certify(evidence.vcek, chain), crl, roots=roots)
    if claims.report.vmpl != 0:
        reason = "the report is not the paravisor's: the guest can have asked for it"
        raise Refused(Code.AZURE_VMPL, reason)
    _check_runtime(report, claims.report.report_data)
    return claims, claims.report.measurement


def _certify(vcek: bytes, chain: Sequence[bytes]) -> list[bytes]:
    """Put the VCEK before its issuers; as often as it is among them, take it out there."""
    try:
        (leaf,) = certificates.load(vcek, at_most=1)
        issuers = [each for piece in chain for each in certificates.load(piece, at_most=_MAX_CHAIN)]
    except MalformedEvidence as error:
        raise Refused(Code.AZURE_MALFORMED, str(error)) from error
    kept = dict.fromkeys([leaf, *issuers])
    return [each.public_bytes(Encoding.DER) for each in kept]


def _verify_tdx(
    evidence: AzureEvidence,
    report: HclReport,
    collateral: bytes,
    *,
    roots: frozenset[bytes],
    at: int,
) -> tuple[IntelClaims, bytes]:
    claims = intel.verify(evidence.td_quote, collateral, roots=roots, at=at)
    found = claims.report
    if isinstance(found, EnclaveReport) or found.report_data != report.td_report_data:
        reason = "the TDX quote is of another report than the HCL report holds"
        raise Refused(Code.AZURE_HARDWARE_MISMATCH, reason)
    _check_runtime(report, found.report_data)
    return claims, measure_td(found)


def _check_runtime(report: HclReport, report_data: bytes) -> None:
    """Check that the hardware vouches for the runtime data, and for nothing beside it."""
    if report_data != report.report_data:
        raise Refused(Code.AZURE_RUNTIME_MISMATCH, "the hardware vouches for other runtime data")
