"""Azure's virtual TPM: a quote by a key that the machine's own hardware vouches for.

    hardware report (SNP or TDX)  binds  runtime data  holds  attestation key  signs  quote

The paravisor, which the hardware has measured, keeps the virtual TPM beside the guest: SNP's VMPL
0, which the guest (VMPL 2) is not. A report that the guest can ask for itself binds what it likes.

Evidence is JSON, in the shapes in which it is exchanged; bytes are lists of numbers where there is
no version:

    {"quote":     {"message", "signature", "pcrs"}, "report",     "vcek": PEM}       SNP
    {"tpm_quote": {"message", "signature", "pcrs"}, "hcl_report", "td_quote"}        TDX
    {"version": 1 or 2, "tpm_quote": {hexadecimal}, "hcl_report": base64url,
     "vcek": base64url of DER | "td_quote": base64url}

`message` is a TPMS_ATTEST over all 24 registers of SHA-256, `signature` RSASSA over SHA-256.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
from attestation.verifier.tpm.claims import Provenance, TpmClaims, describe
from attestation.verifier.tpm.event_log import Registers
from attestation.verifier.tpm.hcl import AK_NAME, Hardware, HclReport, RuntimeData
from attestation.verifier.tpm.keys import Signature
from attestation.verifier.tpm.quote import check as check_quote
from attestation.verifier.tpm.quote import check_log
from wire import canonical_json
from wire.errors import Malformed

MAX_ENCODED = 1 << 18
"""Bytes. With lists of numbers, 30 kB of TDX evidence become four times as many."""

_MAX_CHAIN = 3
_VERSIONS = (1, 2)
_HEX = re.compile(r"(?:[0-9a-f]{2})*")


@dataclass(frozen=True)
class AzureEvidence:
    """Azure's evidence; none of it checked.

    Attributes:
        message: a TPMS_ATTEST.
        signature: the RSA signature over it.
        registers: the values of the registers, in order.
        hcl_report: the HCL report.
        vcek: the certificate of the chip's key, DER or PEM; empty with TDX.
        td_quote: the TDX quote; empty with SNP.
    """

    message: bytes
    signature: bytes
    registers: tuple[bytes, ...]
    hcl_report: bytes
    vcek: bytes
    td_quote: bytes

    def encode(self) -> bytes:
        """Return the newest of the shapes, as canonical JSON: what our attester writes."""
        name, endorsed = ("vcek", self.vcek) if self.vcek else ("td_quote", self.td_quote)
        return canonical_json.encode(
            {
                "version": _VERSIONS[0],
                "tpm_quote": {
                    "message": self.message.hex(),
                    "signature": self.signature.hex(),
                    "pcrs": [value.hex() for value in self.registers],
                },
                "hcl_report": base64.urlsafe_b64encode(self.hcl_report).decode(),
                name: base64.urlsafe_b64encode(endorsed).decode(),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> AzureEvidence:
        """Decode evidence in any of its shapes.

        Raises:
            MalformedEvidence: of none of them; a member twice, missing or unknown; too long.
        """
        if len(data) > MAX_ENCODED:
            raise MalformedEvidence("Azure evidence: too long")
        try:
            members = canonical_json.decode(data)
        except Malformed as error:
            raise MalformedEvidence("Azure evidence: not JSON, or a member twice") from error
        match members:
            case {"version": int(version), "tpm_quote": quote, "hcl_report": report, **rest}:
                if version not in _VERSIONS:
                    raise MalformedEvidence("Azure evidence: of another version")
            case {"quote": quote, "report": report, **rest} | {
                "tpm_quote": quote,
                "hcl_report": report,
                **rest,
            }:
                pass
            case _:
                raise MalformedEvidence("Azure evidence: of no shape that is known")
        return cls(*_decode_quote(quote), _decode_base64(report), *_decode_endorsement(rest))


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
        if isinstance(self.hardware, SnpClaims):
            self.hardware.check_dates(at=at)
        elif at < self.hardware.valid_from:
            raise Refused(Code.TDX_COLLATERAL_NOT_YET_VALID, "the collateral is from the future")
        elif at > self.hardware.valid_until:
            raise Refused(Code.TDX_COLLATERAL_EXPIRED, "the collateral has expired")

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


def _decode_quote(quote: Any) -> tuple[bytes, bytes, tuple[bytes, ...]]:  # noqa: ANN401 - JSON
    match quote:
        case {"message": message, "signature": signature, "pcrs": list(values), **rest} if not rest:
            pcrs = tuple(map(_decode_hex, values))
            return _decode_hex(message), _decode_hex(signature), pcrs
    raise MalformedEvidence("Azure evidence: no quote")


def _decode_endorsement(members: dict[Any, Any]) -> tuple[bytes, bytes]:
    """Decode what endorses the hardware's report: a VCEK, or a TDX quote instead of the report."""
    match members:
        case {"vcek": str(pem), **rest} if not rest and pem.startswith("-----BEGIN"):
            return _encode_ascii(pem), b""
        case {"vcek": vcek, **rest} if not rest and vcek:
            return _decode_base64(vcek), b""
        case {"td_quote": quote, **rest} if not rest and quote:
            return b"", _decode_base64(quote)
    raise MalformedEvidence("Azure evidence: neither a VCEK nor a TDX quote alone")


def _encode_ascii(text: str) -> bytes:
    try:
        return text.encode("ascii")
    except ValueError as error:
        raise MalformedEvidence("Azure evidence: PEM that is not ASCII") from error


def _decode_hex(value: Any) -> bytes:  # noqa: ANN401 - whatever a JSON text says
    if isinstance(value, str) and _HEX.fullmatch(value):
        return bytes.fromhex(value)
    return _decode_numbers(value)


def _decode_base64(value: Any) -> bytes:  # noqa: ANN401 - as above
    if not isinstance(value, str):
        return _decode_numbers(value)
    try:
        data = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except ValueError as error:
        raise MalformedEvidence("Azure evidence: a text that is not base64url") from error
    if value not in {(text := base64.urlsafe_b64encode(data).decode()), text.rstrip("=")}:
        raise MalformedEvidence("Azure evidence: base64url with stray bits")
    return data


def _decode_numbers(value: Any) -> bytes:  # noqa: ANN401 - as above
    if isinstance(value, list) and all(type(each) is int and 0 <= each < 256 for each in value):
        return bytes(value)
    raise MalformedEvidence("Azure evidence: a member that is not bytes")
