"""What every platform's verifier does: one object for a platform, one for a quote it has verified.

A platform joins by a module of this folder with one such object, named in
`attestation.verifier.platforms`. What differs between platforms (chains, collateral, how report
data is bound) stays behind these two interfaces.
"""

from __future__ import annotations

from typing import Protocol

from attestation.bundle import Bundle

CLOCK_SKEW_S = 300
"""How far a node's clock may run ahead of the client's: the window of the `Date` field."""


class Quote(Protocol):
    """A quote whose signature has been traced to a pinned root."""

    @property
    def measurement(self) -> bytes:
        """The measurement of what runs, as release leaves in the log state it."""

    @property
    def worth(self) -> str:
        """What the signature proves, in one sentence for a person."""

    def check_dates(self, *, at: int, max_age_s: int) -> str:
        """Check every date in the quote and its chain at unix time `at`; return the reason.

        Raises:
            Refused: too old, from the future, or outside a certificate's or list's dates.
        """

    def check_report_data(self, expected: bytes) -> str:
        """Check that the quote binds these 64 bytes, in its platform's way; return the reason.

        Raises:
            Refused: it binds others.
        """


class Platform(Protocol):
    """The verifier of one platform's quotes."""

    def verify(self, bundle: Bundle, *, roots: frozenset[bytes], at: int) -> Quote:
        """Decode the bundle's quote and trace its signature to one of `roots` (fingerprints).

        Every part of the bundle that the quote's verification does not use must be empty.

        Raises:
            Refused: malformed, of an unknown root, badly signed, or with evidence left unchecked.
        """
