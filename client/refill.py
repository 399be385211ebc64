"""When a wallet draws: at moments that say next to nothing of the request that made it necessary.

Issuer and worker together see when an account draws and when some request shows a token. A draw
that followed each fall of the stock below a mark by seconds would name the account of the request
that took it there. So the stock is looked at for low water at the ticks of a Poisson clock, minutes
apart, which runs on whatever is asked: a draw says that the account was used since its last one,
and of when only as much as a pause without memory leaves. Near empty there is no such choice, and
the stock is filled at once, all the way up, so that this happens to one request in many.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

LOW_WATER = 96
"""The stock is filled up to this many tokens: 64 streams may begin at once."""

NEARLY_EMPTY = 32
"""Below this many the stock is filled without waiting for a tick."""

TICK_S = 600.0
"""The mean pause between two ticks. Who uses r tokens a second comes from `LOW_WATER` down to
`NEARLY_EMPTY` before a tick with e^(-64 / 600 r): at 10 in ten minutes in 2 cases of 1,000, at 64
in more than every third."""


def exponential(mean_s: float) -> float:
    """Return a pause without memory, from the system's randomness."""
    return secrets.SystemRandom().expovariate(1 / mean_s)


class RefillClock:
    """Says whether to draw a batch now; asked at every look of one wallet."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], float] = exponential,
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._tick = clock() + pause(TICK_S)
        self._filling = False

    def due(self, stock: int) -> bool:
        """Return whether a wallet with so many tokens draws now.

        Once it does it goes on, look by look, until the stock has reached `LOW_WATER`.
        """
        ticked = self._clock() >= self._tick
        if ticked:
            self._tick = self._clock() + self._pause(TICK_S)  # whatever there is to draw
        if stock >= LOW_WATER:
            self._filling = False
        elif ticked or stock < NEARLY_EMPTY:
            self._filling = True
        return self._filling
