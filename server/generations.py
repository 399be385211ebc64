"""When a worker's keys come and go. Pure: times in, decisions out.

    made          used                     successor listed    retired        erased
    |-------------|------------------------|-------------------|--------------|
    not_before    (as soon as listed)      rotation_s, or later  + lead_s       + grace

One generation is made every `rotation_s`. Once its successor is in the log, a generation gives
signs of life for `lead_s` more; then it is retired. The log goes on listing it for an epoch or
two, so it is opened a little longer: until the last list's epoch and the Date window of a request
made in it have passed. If log or witnesses are away no successor is listed, and the last generation
serves until its not-after, hours later.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.config import WorkerConfig

MINUTE_S = 60


@dataclass(frozen=True)
class Period:
    """One generation: its number, its two key ids, and its times in Unix seconds."""

    number: int
    x25519_id: int
    xwing_id: int
    not_before: int
    not_after: int
    erase_at: int
    """When it is erased at the latest."""
    next_at: int
    """When its successor is to be made."""

    @property
    def key_ids(self) -> tuple[int, int]:
        """Both key ids."""
        return self.x25519_id, self.xwing_id


def period(config: WorkerConfig, number: int, now: float) -> Period:
    """Return the times and key ids of generation `number` (from 0 on), made now.

    Key ids go round in the worker's range; its length makes sure that none is met again before it
    was erased. Not-before is rounded down to the minute, for clients whose clocks are late.
    """
    first = config.first_key_id + 2 * (number % (config.key_ids // 2))
    made = int(now)
    not_after = made + config.lifetime_s
    return Period(
        number=number,
        x25519_id=first,
        xwing_id=first + 1,
        not_before=min(made // MINUTE_S * MINUTE_S, made),
        not_after=not_after,
        erase_at=not_after + config.grace_s,
        next_at=made + config.rotation_s,
    )


def back_off(attempt: int) -> float:
    """Return how many seconds to wait after the `attempt`-th failure (from 1 on): 0.5 to 30."""
    return float(min(0.5 * 2 ** (attempt - 1), 30.0))
