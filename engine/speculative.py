"""Speculative sampling: several ids a step, from the distribution that one id a step has.

Ids that may come next are *proposed*, and one step computes a row for each. T draws every
position's id from the model's own distribution, as if its proposals up to there had been drawn; it
keeps drawing while they really were, so a step yields the accepted proposals and one id more.

- `speculative_ngram` proposes what followed the last ids when they occurred before in the same
  request. T draws as ever and a proposal is accepted if it is what was drawn: the ids are those of
  a run without proposals, whatever is proposed.
- `speculative_draft` proposes what a second, small model draws. Acceptance is the rule of
  Leviathan et al. 2023 (`speculative_rule`): the same distribution, but not the same ids a seed.

How many ids are proposed is decided here, from what a row costs (measured before there is any
request) and from how many of this sequence's proposals were accepted. Nothing is learnt from one
request for another. Free of torch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

MAX_PROPOSED = 15
"""Proposals of one sequence a step: with the known id's row they fill one tile of 16 rows."""
MAX_EXTRA = 32
"""Rows a step may spend on proposals, all sequences together: they bound how late it ends."""
_MEMORY = 0.8
"""Share of what was known about acceptance that one more step leaves."""
_FORGET = 0.02
"""Share of it that is forgotten where proposals are held back: they are tried again some day."""
_CAUTION = 0.9
"""Of the expected gain. What pays only just is not worth the noise of the estimate."""
_HITS, _MISSES = 1.0, 0.5


@dataclass
class Pace:
    """How one sequence's proposals fare: recent acceptances and rejections. Dies with it."""

    hits: float = _HITS
    misses: float = _MISSES

    @property
    def rate(self) -> float:
        """The estimated probability that a proposal is accepted once those before it were."""
        return self.hits / (self.hits + self.misses)

    def note(self, proposed: int, accepted: int) -> None:
        """Learn from a step in which `accepted` of `proposed` ids were right."""
        self.hits = _MEMORY * self.hits + accepted
        self.misses = _MEMORY * self.misses + (accepted < proposed)

    def rest(self) -> None:
        """Learn nothing: proposals were held back. Old failures are forgotten slowly."""
        self.hits += _FORGET * (_HITS - self.hits)
        self.misses += _FORGET * (_MISSES - self.misses)


class Costs:
    """Seconds that a step takes, by its rows."""

    def __init__(self, rows: Sequence[int], seconds: Sequence[float]) -> None:
        """Take measured points, `rows` ascending from 1; between and beyond them runs a line.

        No step counts as dearer than one of more rows: noise only ever adds.
        """
        lowest = [min(seconds[i:]) for i in range(len(seconds))]
        self._table = [_between(rows, lowest, count) for count in range(rows[-1] + 1)]
        first = max(0, len(rows) - 2)
        self._slope = (lowest[-1] - lowest[first]) / max(1, rows[-1] - rows[first])

    def of(self, rows: int) -> float:
        """Return what a step of so many rows costs."""
        last = len(self._table) - 1
        if rows <= last:
            return self._table[rows]
        return self._table[last] + self._slope * (rows - last)


class Budget:
    """What one step may still spend on proposals."""

    def __init__(self, costs: Costs, draft: Costs | None, *, rows: int, sequences: int) -> None:
        """Begin with a step of `rows` rows, `sequences` of which yield an id each.

        `draft` is what a step of the draft model costs, if there is one.
        """
        self._costs = costs
        self._rows = rows
        self._left = MAX_EXTRA
        sequences = max(1, sequences)
        self._price = costs.of(sequences) / sequences
        self._proposal = draft.of(sequences) / sequences if draft else 0.0

    def choose(self, pace: Pace, most: int) -> int:
        """Return how many proposals, at most `most`, gain most time; 0 if none gains any.

        The gain is the expected number of accepted ids at the price of an id without speculation.
        """
        best, best_net = 0, 0.0
        now = self._costs.of(self._rows)
        chance, gain, rate = 1.0, 0.0, pace.rate
        for count in range(1, min(most, self._left, MAX_PROPOSED) + 1):
            chance *= rate
            gain += chance
            cost = self._costs.of(self._rows + count) - now + count * self._proposal
            net = _CAUTION * gain * self._price - cost
            if net > best_net:
                best, best_net = count, net
        return best

    def spend(self, count: int) -> None:
        """Take `count` rows."""
        self._rows += count
        self._left -= count


def _between(rows: Sequence[int], seconds: Sequence[float], count: int) -> float:
    at = bisect_left(rows, count)
    if rows[at] == count or at == 0:
        return seconds[at]
    share = (count - rows[at - 1]) / (rows[at] - rows[at - 1])
    return seconds[at - 1] + share * (seconds[at] - seconds[at - 1])
