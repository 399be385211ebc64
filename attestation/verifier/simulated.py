"""The verifier of simulated quotes. SIMULATED: an accepted one proves nothing about hardware."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestation import simulated_quote
from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import Code, MalformedEvidence, Refused
from attestation.simulated_quote import SimulatedQuote
from attestation.verifier.quote import CLOCK_SKEW_S, PlatformPolicies, compare_report_data
from attestation.verifier.weakness import WARNINGS, Weakness

NAME = simulated_quote.PLATFORM


@dataclass(frozen=True)
class VerifiedSimulatedQuote:
    """A simulated quote signed by a pinned root (`attestation.verifier.quote.Quote`)."""

    _claims: SimulatedQuote

    @property
    def measurement(self) -> bytes:
        """The measurement that the node states of itself."""
        return self._claims.measurement

    @property
    def worth(self) -> str:
        """What the signature proves."""
        return f"{WARNINGS[Weakness.SIMULATED]}; signed by this run's own root"

    @property
    def weaknesses(self) -> frozenset[Weakness]:
        """That it is simulated."""
        return frozenset({Weakness.SIMULATED})

    def check_dates(self, *, at: int, max_age_s: int) -> str:
        """Check that the quote is neither older than `max_age_s` nor from the future."""
        age = at - self._claims.issued_at
        if age < -CLOCK_SKEW_S:
            raise Refused(Code.QUOTE_FROM_THE_FUTURE, f"made {-age} s in the future")
        if age > max_age_s:
            raise Refused(Code.QUOTE_TOO_OLD, f"{age} s old; at most {max_age_s} s are accepted")
        return f"{max(age, 0)} s old"

    def check_policy(self, policy: PlatformPolicies, *, at: int) -> str:  # noqa: ARG002 - nothing to ask
        """Hold: there is no hardware of which more could be demanded."""
        return "there is no hardware of which a policy could demand more"

    def check_report_data(self, expected: bytes) -> str:
        """Check that the quote holds the 64 bytes of report data themselves."""
        return compare_report_data(self._claims.report_data, expected)


class Simulated:
    """The platform `simulated` (`attestation.verifier.quote.Platform`)."""

    collateral_names: frozenset[str] = frozenset()

    def verify(
        self,
        bundle: Bundle,
        collateral: Collateral,  # noqa: ARG002 - a bare key needs none
        *,
        roots: frozenset[bytes],
        at: int,  # noqa: ARG002 - a bare key has no dates; other platforms' chains do
    ) -> VerifiedSimulatedQuote:
        """Decode the quote and check its signature under a root that is pinned."""
        if bundle.event_log:
            raise Refused(Code.QUOTE_UNCHECKED_EVIDENCE, "an event log that nothing here can check")
        try:
            claims, signature = simulated_quote.split(bundle.quote)
            quote = SimulatedQuote.decode(claims)
        except MalformedEvidence as error:
            raise Refused(Code.QUOTE_MALFORMED, str(error)) from error
        if hashlib.sha256(quote.root_key).digest() not in roots:
            raise Refused(Code.QUOTE_ROOT_UNKNOWN, "signed by a root that is not pinned")
        try:
            key = Ed25519PublicKey.from_public_bytes(quote.root_key)
            key.verify(signature, simulated_quote.to_be_signed(claims))
        except InvalidSignature as error:
            raise Refused(Code.QUOTE_SIGNATURE_BAD, "the signature does not verify") from error
        return VerifiedSimulatedQuote(quote)
