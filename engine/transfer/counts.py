"""What a channel counts, for metrics and for the receipt: sums, no ids."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class TransferCounts:
    """Sums since a channel began.

    Attributes:
        hits: blocks sent that had been sealed ahead.
        misses: blocks sent that had to be sealed when they were asked for.
        nops: empty frames, sent to reach a staged counter.
        relinquishes: times that everything staged was given up.
        bytes_sealed: bytes sealed and sent.
        hidden_s: seconds of sealing that nobody waited for.
    """

    hits: int = 0
    misses: int = 0
    nops: int = 0
    relinquishes: int = 0
    bytes_sealed: int = 0
    hidden_s: float = 0.0

    @property
    def hit_rate(self) -> float:
        """Hits of all blocks sent; 0 where nothing was sent."""
        return self.hits / max(1, self.hits + self.misses)

    def __add__(self, other: TransferCounts) -> TransferCounts:
        """Return the sums of both."""
        names = [each.name for each in fields(self)]
        return TransferCounts(
            **{name: getattr(self, name) + getattr(other, name) for name in names}
        )

    def __sub__(self, earlier: TransferCounts) -> TransferCounts:
        """Return what was added since: one request's part."""
        names = [each.name for each in fields(self)]
        return TransferCounts(
            **{name: getattr(self, name) - getattr(earlier, name) for name in names}
        )
