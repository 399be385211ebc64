"""Which block will be asked for next.

Weights go round: what followed last time follows again (`Cyclic`). KV that left for the host comes
back, the oldest first (`Fifo`) or the newest (`Lifo`). `Mixture` sees both kinds in one stream: it
learns the rhythm in which swaps come between weights, and which of the two orders they follow.

Predictors see ids of blocks of one engine, never what is in them, and forget them with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol

_LOG = 1 << 16
"""Ids remembered; a cycle is found if it is at most half as long."""
_CANDIDATES, _CONTEXT = 8, 32
"""Earlier places that are compared, and how far back, when a cycle breaks."""


class Predictor(Protocol):
    """Guesses the ids of the blocks to be sent."""

    def observe(self, block: int) -> None:
        """This block was sent to the device."""

    def left(self, blocks: Sequence[int]) -> None:
        """These blocks left the device in one batch, in this order; they may come back."""

    def forget(self, block: int) -> None:
        """This block will not come back."""

    def predict(self, count: int) -> list[int]:
        """Return up to `count` ids, the next one first. Does not change the predictor."""


class Never:
    """Predicts nothing: every block is sealed when it is asked for."""

    def observe(self, block: int) -> None:
        """See `Predictor`."""

    def left(self, blocks: Sequence[int]) -> None:
        """See `Predictor`."""

    def forget(self, block: int) -> None:
        """See `Predictor`."""

    def predict(self, count: int) -> list[int]:
        """See `Predictor`."""
        del count
        return []


class _Log:
    """What came, and what would come if it went on as at an earlier place."""

    def __init__(self) -> None:
        self._log: list[Hashable] = []
        self._places: dict[Hashable, deque[int]] = {}
        self._at: int | None = None
        """The place in the log that continues as the present did so far."""

    def add(self, item: Hashable) -> None:
        if len(self._log) >= _LOG:
            self._halve()
        went_on = self._at is not None and self._log[self._at] == item
        places = self._places.setdefault(item, deque(maxlen=_CANDIDATES))
        self._at = self._at + 1 if went_on and self._at is not None else self._best(places)
        places.append(len(self._log))
        self._log.append(item)

    def next(self, count: int) -> list[Hashable]:
        """The log from that place on; where it meets the present, it repeats itself."""
        if self._at is None:
            return []
        period = len(self._log) - self._at
        return [self._log[self._at + number % period] for number in range(count)]

    def _best(self, places: Iterable[int]) -> int | None:
        """After the place whose past resembles ours most; of equals, the latest."""
        best = max(places, key=lambda place: (self._alike(place), place), default=None)
        return None if best is None else best + 1

    def _alike(self, place: int) -> int:
        """How many items before a place are those before the present."""
        alike, present = 0, len(self._log)
        while alike < min(_CONTEXT, place) and (
            self._log[place - 1 - alike] == self._log[present - 1 - alike]
        ):
            alike += 1
        return alike

    def _halve(self) -> None:
        kept = self._log[len(self._log) // 2 :]
        self._log, self._places, self._at = [], {}, None
        for item in kept:
            self.add(item)


class Cyclic:
    """What followed last time follows again; cycles of any length, blocks may repeat in them."""

    def __init__(self) -> None:
        """Begin without a past."""
        self._log = _Log()

    def observe(self, block: int) -> None:
        """See `Predictor`."""
        self._log.add(block)

    def left(self, blocks: Sequence[int]) -> None:
        """See `Predictor`."""

    def forget(self, block: int) -> None:
        """See `Predictor`."""

    def predict(self, count: int) -> list[int]:
        """See `Predictor`."""
        return [item for item in self._log.next(count) if isinstance(item, int)]


class _Swapped:
    """Batches that left and did not come back; a batch comes back in the order it left in."""

    def __init__(self, pick: Callable[[list[list[int]]], Iterable[list[int]]]) -> None:
        self._batches: list[list[int]] = []
        self._outside: set[int] = set()
        self._pick = pick

    def observe(self, block: int) -> None:
        """See `Predictor`."""
        self.forget(block)

    def left(self, blocks: Sequence[int]) -> None:
        """See `Predictor`."""
        for block in blocks:
            self.forget(block)
        if blocks:
            self._batches.append(list(blocks))
            self._outside.update(blocks)

    def forget(self, block: int) -> None:
        """See `Predictor`."""
        if block not in self._outside:
            return
        self._outside.discard(block)
        for batch in self._pick(self._batches):
            if block in batch:
                batch.remove(block)
                break
        self._batches = [batch for batch in self._batches if batch]

    def predict(self, count: int) -> list[int]:
        """See `Predictor`."""
        guesses: list[int] = []
        for batch in self._pick(self._batches):
            guesses += batch[: count - len(guesses)]
            if len(guesses) == count:
                break
        return guesses


class Fifo(_Swapped):
    """What left first comes back first."""

    def __init__(self) -> None:
        """Begin with nothing outside."""
        super().__init__(iter)


class Lifo(_Swapped):
    """What left last comes back first."""

    def __init__(self) -> None:
        """Begin with nothing outside."""
        super().__init__(reversed)


class _Score:
    """Misses of one predictor among its last guesses."""

    def __init__(self, predictor: Predictor, window: int, reach: int) -> None:
        self.predictor = predictor
        self._outcomes: deque[bool] = deque(maxlen=window)
        self._reach = reach

    def judge(self, block: int) -> None:
        self._outcomes.append(block in self.predictor.predict(self._reach))

    @property
    def misses(self) -> int:
        return self._outcomes.count(False)


_SWAP = "swap"
"""In the rhythm: any block that had left."""


_READY = 4
"""One of so many predictions is a weight, one KV, whatever the rhythm says."""


class Mixture:
    """Weights that go round and KV that comes back, in one stream.

    The rhythm is a log in which every returning block is the same item. Each such item of what it
    predicts becomes a block of the swap predictor with the fewest misses in the last W.
    """

    def __init__(self, window: int = 64, reach: int = 4) -> None:
        """Begin without a past.

        Args:
            window: guesses that count.
            reach: a guess is right if the block is among this many; a batch may be reordered.
        """
        self._rhythm = _Log()
        self._rhythmic: deque[bool] = deque(maxlen=window)
        """Whether the rhythm was right, each of the last times."""
        self._weights = Cyclic()
        self._swaps = [_Score(Lifo(), window, reach), _Score(Fifo(), window, reach)]
        self._outside: set[int] = set()

    def observe(self, block: int) -> None:
        """See `Predictor`."""
        if block in self._outside:
            self._came_back(block)
        else:
            self._beat(block)
            self._weights.observe(block)

    def left(self, blocks: Sequence[int]) -> None:
        """See `Predictor`."""
        self._outside.update(blocks)
        for score in self._swaps:
            score.predictor.left(blocks)

    def forget(self, block: int) -> None:
        """See `Predictor`."""
        self._outside.discard(block)
        for score in self._swaps:
            score.predictor.forget(block)

    def predict(self, count: int) -> list[int]:
        """See `Predictor`. While the rhythm errs, of each kind a part is kept ready after it."""
        swaps = min(self._swaps, key=lambda score: score.misses).predictor.predict(count)
        weights = self._weights.predict(count)
        wrong = not all(self._rhythmic)
        ready = count // _READY if weights and swaps and wrong else 0
        rhythm = self._rhythm.next(count) if weights else [_SWAP] * count
        ordered: list[int] = []
        for item in rhythm[: count - 2 * ready]:
            source = swaps if item == _SWAP else weights
            if source:
                ordered.append(source.pop(0))
        return (ordered + weights[:ready] + swaps)[:count]

    def _came_back(self, block: int) -> None:
        for score in self._swaps:
            score.judge(block)
            score.predictor.observe(block)
        self._outside.discard(block)
        self._beat(_SWAP)

    def _beat(self, item: Hashable) -> None:
        self._rhythmic.append(self._rhythm.next(1) == [item])
        self._rhythm.add(item)
