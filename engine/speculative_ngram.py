"""Proposals from the request itself: what followed the last ids when they occurred before.

Only ids of the same sequence are looked at, prompt and output, where they lie in T's table; no
index outlives the look.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np
import numpy.typing as npt
from torch import Tensor

from engine.scheduler import Sequence, Work
from engine.speculative import Budget
from engine.trusted import TrustedSide

Ids = npt.NDArray[np.int64]

_SHORTEST, _LONGEST = 2, 5
"""Ids that must have occurred before, and how many are compared to choose among occurrences."""
_OCCURRENCES = 64
"""The latest occurrences of the last id that are compared further."""


def lookup(ids: Ids, most: int) -> Ids | None:
    """Return up to `most` ids that may follow `ids`, or None if its end never occurred before.

    Among earlier occurrences of the end the longest match wins, then the latest. Where that one is
    nearer than `most` ids, the text is taken to go on in circles.
    """
    last = len(ids) - 1
    found = np.flatnonzero(ids[:-1] == ids[-1:])[-_OCCURRENCES:]
    length = 1
    while length < _LONGEST and len(found):
        longer = found[found >= length]
        longer = longer[ids[longer - length] == ids[last - length : last - length + 1]]
        if not len(longer):
            break
        found, length = longer, length + 1
    if length < _SHORTEST or not len(found):
        return None
    start = int(found[-1]) + 1
    return ids[start + np.arange(most) % (len(ids) - start)]


class Ngrams:
    """Proposes by `lookup`; a `speculative_steps.Proposer`."""

    def __init__(self, trusted: TrustedSide) -> None:
        self._trusted = trusted

    def propose(
        self, works: Items[Work], rooms: dict[Sequence, int], budget: Budget
    ) -> dict[Sequence, int]:
        """See `speculative_steps.Proposer`."""
        counts = {}
        for work in works:
            room = rooms.get(work.sequence, 0)
            known = self._trusted.known(work.sequence).numpy() if room else None
            proposals = None if known is None else lookup(known, room)
            if proposals is None:
                continue
            if count := budget.choose(work.sequence.pace, room):
                budget.spend(count)
                self._trusted.table(work.sequence).numpy()[:count] = proposals[:count]
                counts[work.sequence] = count
            else:
                work.sequence.pace.rest()
            proposals.fill(0)  # numpy keeps small arrays that are freed, as they are, for the next
        return counts

    def beliefs(self) -> dict[Sequence, Tensor]:
        """Nothing: what is looked up was not drawn."""
        return {}

    def finish_step(self) -> None:
        """Nothing is kept between steps, nor within them."""
