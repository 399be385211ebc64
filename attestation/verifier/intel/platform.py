"""The platform `tdx`: a DCAP quote as the quote of a node's bundle."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier.intel.claims import IntelClaims
from attestation.verifier.intel.quote import EnclaveReport, TdReport
from attestation.verifier.intel.verify import verify
from attestation.verifier.quote import PlatformPolicies, compare_report_data
from attestation.verifier.tpm.event_log import replay_rtmrs
from attestation.verifier.weakness import Weakness

NAME = "tdx"
COLLATERAL = "intel-dcap"
MEASUREMENT_LABEL = b"sottovoce tdx measurement v1"


def measure(report: TdReport) -> bytes:
    """Return the measurement of a trust domain as release leaves state it, 32 bytes.

        SHA-256(MEASUREMENT_LABEL || MRTD || RTMR0 || RTMR1 || RTMR2 || RTMR3 ||
                MRCONFIGID || MROWNER || MROWNERCONFIG)

    The last three are whatever the host said when it made the trust domain. They are in it so that
    a release fixes them; one that does not use them has zeros.
    """
    rtmrs = (report.rt_mr0, report.rt_mr1, report.rt_mr2, report.rt_mr3)
    of_the_host = (report.mr_config_id, report.mr_owner, report.mr_owner_config)
    return hashlib.sha256(
        b"".join((MEASUREMENT_LABEL, report.mr_td, *rtmrs, *of_the_host))
    ).digest()


@dataclass(frozen=True)
class VerifiedTdxQuote:
    """A trust domain's quote that leads to a pinned root (`attestation.verifier.quote.Quote`)."""

    claims: IntelClaims
    report: TdReport

    @property
    def measurement(self) -> bytes:
        """SHA-256 over MRTD, the RTMRs and what the host configured (`measure`)."""
        return measure(self.report)

    @property
    def worth(self) -> str:
        """What the signature proves."""
        return f"signed by an Intel TDX platform of kind {self.claims.fmspc}"

    @property
    def weaknesses(self) -> frozenset[Weakness]:
        """None: the hardware keeps the host out, and says so."""
        return frozenset()

    def check_dates(
        self,
        *,
        at: int,
        max_age_s: int,  # noqa: ARG002 - a quote has no date; its key document has
    ) -> str:
        """Check the dates of certificates, revocation lists and statements."""
        self.claims.check_dates(at=at)
        return "chains and collateral are within their dates; a quote has none"

    def check_policy(self, policy: PlatformPolicies, *, at: int) -> str:
        """Check the claims against the policy for `tdx`."""
        return policy.tdx.check(self.claims, at=at)

    def check_report_data(self, expected: bytes) -> str:
        """Check that the report holds the 64 bytes of report data themselves."""
        return compare_report_data(self.report.report_data, expected)


class Tdx:
    """The platform `tdx` (`attestation.verifier.quote.Platform`)."""

    @property
    def collateral_names(self) -> frozenset[str]:
        """Intel's collateral, all in one part."""
        return frozenset({COLLATERAL})

    def verify(
        self, bundle: Bundle, collateral: Collateral, *, roots: frozenset[bytes], at: int
    ) -> VerifiedTdxQuote:
        """Verify the quote; an event log must lead to its RTMRs. An enclave's quote is refused."""
        claims = verify(bundle.quote, collateral.parts.get(COLLATERAL, b""), roots=roots, at=at)
        if isinstance(claims.report, EnclaveReport):
            raise Refused(Code.TDX_NOT_A_TD, "an SGX enclave, not a TDX trust domain")
        if bundle.event_log:
            check_event_log(bundle.event_log, claims.report)
        return VerifiedTdxQuote(claims, claims.report)


def check_event_log(event_log: bytes, report: TdReport) -> None:
    """Check that the replay of an event log (CCEL) leads to RTMR0 to RTMR3.

    Raises:
        Refused: malformed, or it leads elsewhere.
    """
    try:
        replayed = replay_rtmrs(event_log)
    except MalformedEvidence as error:
        raise Refused(Code.TDX_EVENT_LOG_MALFORMED, str(error)) from error
    for index in range(4):
        if replayed[index] != getattr(report, f"rt_mr{index}"):
            raise Refused(
                Code.TDX_EVENT_LOG_MISMATCH, f"the event log does not lead to RTMR{index}"
            )
