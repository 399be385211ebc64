"""The platforms `tpm`, `gce-vtpm` and `azure-vtpm`: a TPM's quote as the quote of a node's bundle.

    extraData = SHA-256(report data)
    measurement = SHA-256(LABEL || u8 length || platform || u8 length || hardware || registers)
    hardware = what the hardware has measured at launch; empty without such
    registers = (u8 index || value)*, the registers `policy.MEASURED` of SHA-256

`tpm` and `gce-vtpm` prove what was booted to one who trusts the TPM's owner; `azure-vtpm` holds the
hardware's own report, which keeps the host out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import Code, Refused
from attestation.verifier.amd.claims import SnpClaims
from attestation.verifier.quote import PlatformPolicies
from attestation.verifier.tpm import azure, gce, quote
from attestation.verifier.tpm.azure import AzureClaims
from attestation.verifier.tpm.claims import TpmClaims
from attestation.verifier.tpm.event_log import Registers
from attestation.verifier.tpm.policy import MEASURED, MEASURED_BANK
from attestation.verifier.weakness import WARNINGS, Weakness

LABEL = b"sottovoce tpm measurement v1"
TPM, GCE, AZURE = "tpm", "gce-vtpm", "azure-vtpm"
CHAIN, CERTIFICATION = "tpm-chain", "tpm-certification"
AMD_CHAIN, AMD_CRL, INTEL = "amd-chain", "amd-crl", "intel-dcap"


def measure(platform: str, hardware: bytes, registers: Registers) -> bytes:
    """Return the measurement of a machine, 32 bytes.

    Raises:
        Refused: a register that it is made of was not quoted.
    """
    values = registers.get(MEASURED_BANK, {})
    if not values.keys() >= set(MEASURED):
        raise Refused(Code.TPM_REGISTERS_MISSING, "a register that releases state is not quoted")
    return hashlib.sha256(
        LABEL
        + b"".join(bytes([len(part)]) + part for part in (platform.encode(), hardware))
        + b"".join(bytes([index]) + values[index] for index in MEASURED)
    ).digest()


@dataclass(frozen=True)
class VerifiedTpmQuote:
    """A quote that only a TPM's owner vouches for (`attestation.verifier.quote.Quote`)."""

    platform: str
    claims: TpmClaims

    @property
    def measurement(self) -> bytes:
        """The measurement of what was booted."""
        return measure(self.platform, b"", self.claims.registers)

    @property
    def worth(self) -> str:
        """What the signature proves."""
        return f"{WARNINGS[Weakness.BOOT_ONLY]}; the key is a TPM's by {self.claims.provenance}"

    @property
    def weaknesses(self) -> frozenset[Weakness]:
        """That nothing keeps the host out."""
        return frozenset({Weakness.BOOT_ONLY})

    def check_dates(
        self,
        *,
        at: int,
        max_age_s: int,  # noqa: ARG002 - a quote has no date; its key document has
    ) -> str:
        """Check the dates of the key's certificates."""
        self.claims.check_dates(at=at)
        return "the chain is within its dates; a quote has none: its key document has"

    def check_policy(self, policy: PlatformPolicies, *, at: int) -> str:
        """Check the quote against the policy for TPMs."""
        return policy.tpm.check(self.claims, at=at)

    def check_report_data(self, expected: bytes) -> str:
        """Check that the quote binds the digest of the report data."""
        return _check_extra_data(self.claims, expected)


@dataclass(frozen=True)
class VerifiedAzureQuote:
    """A quote that the machine's hardware vouches for (`attestation.verifier.quote.Quote`)."""

    claims: AzureClaims

    @property
    def measurement(self) -> bytes:
        """The measurement of what the hardware launched, and of what was booted then."""
        return measure(AZURE, self.claims.launched, self.claims.tpm.registers)

    @property
    def worth(self) -> str:
        """What the signature proves."""
        return f"a virtual TPM's, beside the guest, that its {self.claims.tee} hardware vouches for"

    @property
    def weaknesses(self) -> frozenset[Weakness]:
        """None: the hardware keeps the host out."""
        return frozenset()

    def check_dates(
        self,
        *,
        at: int,
        max_age_s: int,  # noqa: ARG002 - neither quote nor report has a date
    ) -> str:
        """Check the dates of the hardware's chain and collateral."""
        self.claims.check_dates(at=at)
        return "the hardware's chain is within its dates; quote and report have none"

    def check_policy(self, policy: PlatformPolicies, *, at: int) -> str:
        """Check the quote against the policies for its hardware and for TPMs."""
        hardware = self.claims.hardware
        if isinstance(hardware, SnpClaims):
            found = policy.snp.check(hardware, at=at)
        else:
            found = policy.tdx.check(hardware, at=at)
        return f"{found}; {policy.tpm.check(self.claims.tpm, at=at)}"

    def check_report_data(self, expected: bytes) -> str:
        """Check that the quote binds the digest of the report data."""
        return _check_extra_data(self.claims.tpm, expected)


class Tpm:
    """The platform `tpm` (`attestation.verifier.quote.Platform`)."""

    @property
    def collateral_names(self) -> frozenset[str]:
        """The attestation key's chain, and its certification if the chain is another key's."""
        return frozenset({CHAIN, CERTIFICATION})

    def verify(
        self,
        bundle: Bundle,
        collateral: Collateral,
        *,
        roots: frozenset[bytes],
        at: int,  # noqa: ARG002 - the dates are a step of their own
    ) -> VerifiedTpmQuote:
        """Check the quote, the log that explains it, and where its key comes from."""
        claims = quote.authenticate(
            bundle.quote,
            chain=collateral.parts.get(CHAIN, b""),
            certification=collateral.parts.get(CERTIFICATION, b""),
            event_log=bundle.event_log,
            roots=roots,
        )
        return VerifiedTpmQuote(TPM, claims)


class GceVtpm:
    """The platform `gce-vtpm` (`attestation.verifier.quote.Platform`)."""

    @property
    def collateral_names(self) -> frozenset[str]:
        """The issuers of the attestation key's certificate."""
        return frozenset({CHAIN})

    def verify(
        self,
        bundle: Bundle,
        collateral: Collateral,
        *,
        roots: frozenset[bytes],
        at: int,  # noqa: ARG002 - the dates are a step of their own
    ) -> VerifiedTpmQuote:
        """Check Google's evidence, which holds its own event log."""
        if bundle.event_log:
            raise Refused(Code.QUOTE_UNCHECKED_EVIDENCE, "an event log outside Google's evidence")
        chain = collateral.parts.get(CHAIN, b"")
        claims = gce.authenticate(bundle.quote, chain=chain, roots=roots)
        if claims.unchecked:
            reason = f"evidence that nothing here can check: {', '.join(claims.unchecked)}"
            raise Refused(Code.QUOTE_UNCHECKED_EVIDENCE, reason)
        return VerifiedTpmQuote(GCE, claims.tpm)


class AzureVtpm:
    """The platform `azure-vtpm` (`attestation.verifier.quote.Platform`)."""

    @property
    def collateral_names(self) -> frozenset[str]:
        """The collateral of the hardware's report, AMD's or Intel's."""
        return frozenset({AMD_CHAIN, AMD_CRL, INTEL})

    def verify(
        self, bundle: Bundle, collateral: Collateral, *, roots: frozenset[bytes], at: int
    ) -> VerifiedAzureQuote:
        """Check the hardware's report, the runtime data in it, and the quote under its key."""
        parts = collateral.parts
        chain = [parts[AMD_CHAIN]] if AMD_CHAIN in parts else []
        claims = azure.authenticate(
            bundle.quote,
            chain=chain,
            crl=parts.get(AMD_CRL, b""),
            collateral=parts.get(INTEL, b""),
            event_log=bundle.event_log,
            roots=roots,
            at=at,
        )
        unused = {AMD_CHAIN, AMD_CRL} if claims.tee == "tdx" else {INTEL}
        if unused & parts.keys():
            raise Refused(Code.QUOTE_UNCHECKED_EVIDENCE, "collateral of other hardware")
        return VerifiedAzureQuote(claims)


def _check_extra_data(claims: TpmClaims, expected: bytes) -> str:
    if claims.extra_data != hashlib.sha256(expected).digest():
        raise Refused(Code.REPORT_DATA_MISMATCH, "the quote vouches for other keys or nonce")
    return "the quote binds the key document, its GPU reports and the nonce"
