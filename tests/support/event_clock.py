"""An event loop whose seconds pass at once: hours of many clients' lives in a moment.

Nothing that runs on it may wait for a socket, a thread or another process.
"""

import asyncio
import selectors


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: the clock is put forward instead."""

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("nothing is due, and nothing else can happen")
        self.loop.now += max(0.0, timeout)
        return super().select(0)


class EventClock(asyncio.SelectorEventLoop):
    """`time()` is the simulation's; it begins at `now`."""

    def __init__(self, now=1_800_000_000.0):
        self.now = now
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = 1e-6  # what a float tells apart at `now`

    def time(self):
        return self.now


def simulate(scenario, clock):
    """Run `scenario()` on `clock` until it returns; what it left running is cancelled."""
    try:
        return clock.run_until_complete(scenario())
    finally:
        tasks = asyncio.all_tasks(clock)
        for task in tasks:
            task.cancel()
        if tasks:
            clock.run_until_complete(asyncio.wait(tasks))
        clock.close()
