"""What is counted of KV outside the device: sums, and one sequence's part for its receipt."""

from __future__ import annotations

from dataclasses import dataclass

from engine.transfer.counts import TransferCounts


@dataclass
class OffloadCounts:
    """Sums since the start.

    Attributes:
        left: sequences whose blocks went outside, in whole or in part.
        returned: sequences that came back.
        blocks: of theirs, that did not have to be computed again.
        shortened: sequences of which not every block found room outside.
        without: sequences that found no room at all.
        failed: sequences of which something was refused, in flight or at rest.
        restarts: of the channel, after a refusal or because the device restarted.
    """

    left: int = 0
    returned: int = 0
    blocks: int = 0
    shortened: int = 0
    without: int = 0
    failed: int = 0
    restarts: int = 0


@dataclass(frozen=True)
class Crossings:
    """One sequence's part.

    Attributes:
        sent: units that crossed, in either direction.
        hits: of those sent to the device, sealed ahead.
        misses: of those sent to the device, sealed when they were asked for.
    """

    sent: int = 0
    hits: int = 0
    misses: int = 0

    def unloaded(self, units: int) -> Crossings:
        """Return this and units that came from the device."""
        return Crossings(self.sent + units, self.hits, self.misses)

    def loaded(self, counts: TransferCounts) -> Crossings:
        """Return this and what a channel sent to the device."""
        hits, misses = self.hits + counts.hits, self.misses + counts.misses
        return Crossings(self.sent + counts.hits + counts.misses, hits, misses)
