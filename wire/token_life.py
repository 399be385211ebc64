"""The life of an issuer key, and with it of every token signed under it.

    not_before          not_after            not_after + EXCHANGE_S
        |-- signs, redeems --|-- only exchanges --|-- over
        |------------- exchanges -----------------|

- *signs*: the issuer signs new tokens under it; clients draw under the newest key that signs.
- *redeems*: workers take its tokens. They may know it before `not_before`: a key that everybody
  knows ahead of time is refused nowhere on its first day.
- *exchanges*: a token of it that was never shown may be swapped, once, for one of a newer key.
- *over*: tokens of it are worth nothing; its spent rows are dropped.

A key is *live* from `not_before` until it is over, and at most two keys are live at any moment.
The period is what the log's leaf says of the key: it is the same for everybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

EXCHANGE_S = 86_400
"""How long after a key has retired its tokens are exchanged: a client that is used once a day meets
this window."""

MAX_LIVE = 2
"""Keys live at once. More would tell users apart by the keys of their tokens."""


@dataclass(frozen=True)
class KeyPeriod:
    """When a key is in use, in seconds of Unix time, the end not included.

    Raises:
        ValueError: it ends before it begins.
    """

    not_before: int
    not_after: int

    def __post_init__(self) -> None:
        if not 0 <= self.not_before < self.not_after:
            raise ValueError("a key's period ends after it begins")

    @property
    def over_at(self) -> int:
        """The second from which on the key is over."""
        return self.not_after + EXCHANGE_S

    def signs(self, at: float) -> bool:
        """Whether the issuer signs under it."""
        return self.not_before <= at < self.not_after

    def redeems(self, at: float) -> bool:
        """Whether workers take its tokens."""
        return at < self.not_after

    def exchanges(self, at: float) -> bool:
        """Whether its tokens are exchanged for those of a newer key: while it is live."""
        return self.not_before <= at < self.over_at

    def over(self, at: float) -> bool:
        """Whether its tokens are worth nothing any more."""
        return at >= self.over_at


def most_live(periods: Iterable[KeyPeriod]) -> int:
    """Return how many of these keys are live at once at the worst moment."""
    known = list(periods)
    # The number only ever rises where a period begins.
    return max(
        (sum(other.exchanges(one.not_before) for other in known) for one in known), default=0
    )
