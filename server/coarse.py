"""Counts and levels that are published so coarsely that no single request can be read off.

A **count** moves only when at least LEAST of its events are pending, by a multiple of STEP:

    threshold    drawn anew, uniformly from LEAST .. LEAST + STEP - 1, after every publication
    amount       the pending events, rounded to a multiple of STEP up or down at random, so that
                 its mean is their number; what was rounded off is forgotten

Whoever sees every publication, and knows every event but one, tells whether there was that one with
an advantage of at most 2 / STEP: moving the threshold by one hides it from *when* the count moves,
all but once in STEP times, and the rounding from *how far*, all but once in STEP times. After that
nothing depends on it. `docs/hardening.md` has the arithmetic.

A **level** is looked at once a period, at a moment that nobody knows, and rounded in the same way
to a multiple of LEVEL_STEP.
"""

from __future__ import annotations

import random
import secrets

LEAST = 16
"""Pending events below which a count never moves."""

STEP = 64
"""What a count moves by a multiple of. Two of these make the advantage 1/32."""

LEVEL_STEP = 16
"""What a level is a multiple of."""


def rounded(number: int, step: int, chance: random.Random) -> int:
    """Return a multiple of `step` next to `number`, up or down; its mean is `number`."""
    below, rest = divmod(number, step)
    return step * (below + (chance.randrange(step) < rest))


class Pending:
    """The events of one count that are not published yet.

    Args:
        chance: where its randomness is from; the system's own, but for tests.
        least: events below which it does not move.
        step: what it moves by a multiple of.
    """

    def __init__(
        self, chance: random.Random | None = None, *, least: int = LEAST, step: int = STEP
    ) -> None:
        self._chance = chance or secrets.SystemRandom()
        self._least, self._step = least, step
        self._begin()

    def _begin(self) -> None:
        self._events = 0
        self._threshold = self._least + self._chance.randrange(self._step)

    def add(self) -> None:
        """Count one event."""
        self._events += 1

    def take(self) -> int:
        """Return what to publish now; 0 while there are too few events, and sometimes else."""
        if self._events < self._threshold:
            return 0
        amount = rounded(self._events, self._step, self._chance)
        self._begin()
        return amount
