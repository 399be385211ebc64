"""What every platform's verifier does: one object for a platform, one for a quote it has verified.

A platform joins by a module of this folder with one such object, named in
`attestation.verifier.platforms`. What differs between platforms (chains, collateral, how report
data is bound) stays behind these two interfaces.
"""

from __future__ import annotations

from typing import Protocol

from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import Code, Refused
from attestation.verifier.amd.policy import SnpPolicy
from attestation.verifier.intel.policy import TdxPolicy
from attestation.verifier.tpm.policy import TpmPolicy
from attestation.verifier.weakness import Weakness

CLOCK_SKEW_S = 300
"""How far a node's clock may run ahead of the client's: the window of the `Date` field."""


def compare_report_data(found: bytes, expected: bytes) -> str:
    """Compare the report data in a quote with what it should be, 64 bytes; return the reason.

    Raises:
        Refused: other keys or GPUs; or these, over another nonce: not made for who asked.
    """
    if found[:32] != expected[:32]:
        raise Refused(Code.REPORT_DATA_MISMATCH, "the quote vouches for other keys")
    if found != expected:
        raise Refused(Code.NONCE_MISMATCH, "the quote vouches for these keys over another nonce")
    return "the quote binds the key document, its GPU reports and the nonce"


class PlatformPolicies(Protocol):
    """The parts of a client's policy that platforms ask (`attestation.verifier.policy`)."""

    @property
    def tdx(self) -> TdxPolicy:
        """What is demanded of a trust domain and its platform."""

    @property
    def snp(self) -> SnpPolicy:
        """Of an SNP report."""

    @property
    def tpm(self) -> TpmPolicy:
        """Of a TPM's quote."""


class Quote(Protocol):
    """A quote whose signature has been traced to a pinned root."""

    @property
    def measurement(self) -> bytes:
        """The measurement of what runs, 32 to 64 bytes, as release leaves in the log state it."""

    @property
    def worth(self) -> str:
        """What the signature proves, in one sentence for a person."""

    @property
    def weaknesses(self) -> frozenset[Weakness]:
        """What is true of this quote, whatever it says, that the default policy does not accept."""

    def check_dates(self, *, at: int, max_age_s: int) -> str:
        """Check every date in the quote and its chain at unix time `at`; return the reason.

        Raises:
            Refused: too old, from the future, or outside a certificate's or list's dates.
        """

    def check_policy(self, policy: PlatformPolicies, *, at: int) -> str:
        """Check the quote against the part of the policy that is its platform's; return the reason.

        Raises:
            Refused: authentic, but not acceptable under this policy.
        """

    def check_report_data(self, expected: bytes) -> str:
        """Check that the quote binds these 64 bytes, in its platform's way; return the reason.

        Raises:
            Refused: it binds others. Where a quote shows the report data themselves, the code says
                whether it is another nonce only (`compare_report_data`).
        """


class Platform(Protocol):
    """The verifier of one platform's quotes."""

    @property
    def collateral_names(self) -> frozenset[str]:
        """The parts of the collateral that it uses. A part that nobody uses is refused."""

    def verify(
        self, bundle: Bundle, collateral: Collateral, *, roots: frozenset[bytes], at: int
    ) -> Quote:
        """Decode the bundle's quote and trace its signature to one of `roots` (fingerprints).

        An event log, where the platform has one, is replayed; where it has none it must be empty.
        The collateral may hold parts that are others' (`collateral_names` says which are its own).

        Raises:
            Refused: malformed, of an unknown root, badly signed, or with evidence left unchecked.
        """
