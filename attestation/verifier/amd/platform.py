"""The platform `snp`: an SNP report as the quote of a node's bundle."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import Code, Refused
from attestation.verifier.amd import snp
from attestation.verifier.amd.claims import SnpClaims
from attestation.verifier.quote import PlatformPolicies, compare_report_data
from attestation.verifier.weakness import Weakness

NAME = "snp"
CHAIN, CRL = "amd-chain", "amd-crl"


@dataclass(frozen=True)
class VerifiedSnpQuote:
    """A report that leads to a pinned root (`attestation.verifier.quote.Quote`)."""

    claims: SnpClaims

    @property
    def measurement(self) -> bytes:
        """The launch measurement, 48 bytes."""
        return self.claims.report.measurement

    @property
    def worth(self) -> str:
        """What the signature proves."""
        endorsement = self.claims.endorsement
        return f"signed by a {endorsement.kind.name} of AMD's for {endorsement.product_name}"

    @property
    def weaknesses(self) -> frozenset[Weakness]:
        """None: the hardware keeps the host out, and says so."""
        return frozenset()

    def check_dates(
        self,
        *,
        at: int,
        max_age_s: int,  # noqa: ARG002 - a report has no date; its key document has
    ) -> str:
        """Check the dates of chain and revocation list."""
        self.claims.check_dates(at=at)
        return "the chain is within its dates; a report has none: its key document has"

    def check_policy(self, policy: PlatformPolicies, *, at: int) -> str:
        """Check the report against the policy for `snp`."""
        return policy.snp.check(self.claims, at=at)

    def check_report_data(self, expected: bytes) -> str:
        """Check that the report holds the 64 bytes of report data themselves."""
        return compare_report_data(self.claims.report.report_data, expected)


class Snp:
    """The platform `snp` (`attestation.verifier.quote.Platform`)."""

    @property
    def collateral_names(self) -> frozenset[str]:
        """The chain, and the ARK's revocation list."""
        return frozenset({CHAIN, CRL})

    def verify(
        self,
        bundle: Bundle,
        collateral: Collateral,
        *,
        roots: frozenset[bytes],
        at: int,  # noqa: ARG002 - the dates are a step of their own
    ) -> VerifiedSnpQuote:
        """Decode the report and trace its signature to a pinned root."""
        if bundle.event_log:
            raise Refused(Code.QUOTE_UNCHECKED_EVIDENCE, "an event log, which SNP does not have")
        chain = collateral.parts.get(CHAIN)
        if chain is None:
            raise Refused(Code.SNP_CHAIN_MALFORMED, f"the collateral has no {CHAIN}")
        crl = collateral.parts.get(CRL, b"")
        return VerifiedSnpQuote(snp.authenticate(bundle.quote, [chain], crl, roots=roots))
