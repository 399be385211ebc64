"""The sending end of a direction.

`send` finds a block's frame or makes it; `sync` releases what was sent since the last one, in the
order of sequence numbers, as one batch. Between the two the order of a batch is open, so blocks
that were staged in another order than they are asked for are hits all the same.

A miss takes a number that nobody holds: one of the gap that staging leaves free, or one that the
batch passes over anyway. If there is none, everything staged is relinquished. Numbers of a batch
that no block took become NOPs. So every number is released exactly once, in order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

from engine.aead import TAG, Buffer
from engine.transfer.blocks import BlockStore
from engine.transfer.buffers import Buffers
from engine.transfer.counts import TransferCounts
from engine.transfer.errors import BlockBusy, ChannelClosed
from engine.transfer.forms import Form
from engine.transfer.frame import NOP, Frame
from engine.transfer.link import Link
from engine.transfer.predict import Predictor
from engine.transfer.sealer import Sealer
from engine.transfer.staging import Staging


class Trust:
    """Whether staging pays: it rests for a while when a quarter of what was sent was not staged.

    Each rest in a row is twice as long as the one before, so that guesses which never come true
    cost next to nothing, and a change of habits no more than a moment.
    """

    def __init__(self, window: int = 32, rest: int = 16, longest: int = 1024) -> None:
        """Begin with trust; judge by the last `window` blocks sent."""
        self._outcomes: deque[bool] = deque(maxlen=window)
        self._window = window
        self._least, self._longest = rest, longest
        self._rest, self._resting = rest, 0

    @property
    def staging(self) -> bool:
        """Whether to stage."""
        return self._resting == 0

    @property
    def missed(self) -> bool:
        """Whether a gap may be needed."""
        return False in self._outcomes

    def judge(self, *, hit: bool, guessed: bool) -> None:
        """A block was sent, and something had been staged or not."""
        if self._resting:
            self._resting -= 1
        elif guessed:
            self._outcomes.append(hit)
        wrong = self._outcomes.count(False)
        if 4 * wrong > self._window:
            self._outcomes.clear()
            self._resting, self._rest = self._rest, min(2 * self._rest, self._longest)
        elif len(self._outcomes) == self._window:
            self._rest = self._least


class Sender:
    """One thread stages, sends and synchronises; sealing ahead is the sealer's."""

    def __init__(
        self,
        form: Form,
        store: BlockStore,
        link: Link,
        *,
        predictor: Predictor,
        sealer: Sealer,
        depth: int,
        gap: int,
        buffers: Buffers | None = None,
    ) -> None:
        """Begin at sequence number 0.

        Args:
            form: of the frames.
            store: the blocks.
            link: where batches go.
            predictor: which block comes next.
            sealer: what seals ahead.
            depth: blocks staged at most; 0 seals each when it is asked for.
            gap: numbers left free before what a `sync` stages, while there are misses.
            buffers: private memory for frames.
        """
        self._form, self._store, self._link, self._sealer = form, store, link, sealer
        self._predictor = predictor
        self._depth, self._gap = (depth if form.ahead else 0), gap
        self._buffers = buffers or Buffers()
        self._staging = Staging(form, store, sealer, self._buffers)
        self._trust = Trust()
        self._next = self._free = 0
        """The next number to be released; no number below `_free` can still be taken."""
        self._batch: dict[int, tuple[Frame, memoryview | None]] = {}
        self._top = -1
        """The highest number in the batch."""
        self._settled = False
        """Until the next sync nothing is staged: a guess was wrong, or all that is known is."""
        self._sums = dict.fromkeys((each.name for each in fields(TransferCounts)), 0.0)
        self._closed = False
        self._lock = threading.RLock()

    @property
    def counts(self) -> TransferCounts:
        """Sums so far."""
        sums = {name: int(value) for name, value in self._sums.items() if name != "hidden_s"}
        return TransferCounts(**sums, hidden_s=self._sums["hidden_s"])

    def stage(self, ids: Sequence[int]) -> None:
        """Seal these ahead, in this order, as far as there is room."""
        with self._lock:
            self._stage(ids, self._gap_now)

    def send(self, block: int) -> Frame:
        """Put the block's content of this moment into the batch.

        Raises:
            BlockUnusable: there is no content, or it is being written.
            ChannelClosed: the channel was closed.
        """
        with self._lock:
            if self._closed:
                raise ChannelClosed("the channel was closed")
            version, _ = self._store.snapshot(block)
            guessed = len(self._staging) > 0
            frame = self._staged(block, version)
            hit = frame is not None
            if frame is None:
                frame = self._seal_now(block)
            self._count("hits" if hit else "misses")
            self._count("bytes_sealed", frame.length)
            self._predictor.observe(block)
            self._trust.judge(hit=hit, guessed=guessed)
            if not self._settled and self._staging.count_above(self._top) <= self._depth // 2:
                self._refill(self._depth, 0)
            return frame

    def sync(self) -> None:
        """Release the batch; then stage what will be asked for next."""
        with self._lock:
            self._release()
            self._expect(self._depth)

    def left(self, blocks: Sequence[int]) -> None:
        """These blocks left the other side in one batch: they may be asked for again."""
        with self._lock:
            self._predictor.left(blocks)

    def expect(self, count: int) -> None:
        """So many blocks were opened: stage as many of those that may be asked for next.

        No more: what arrives after them may come back before them.
        """
        with self._lock:
            if not self._closed and not self._batch:
                self._expect(min(count, self._depth))

    def restart(self, secret: Buffer) -> None:
        """Drop the batch and what is staged; begin at 0 under another secret.

        Raises:
            SecretReused: it is not another.
        """
        with self._lock:
            self._relinquish()
            self._drop_batch()
            self._form.restart(secret)
            self._next = self._free = 0

    def drop_blocks(self, blocks: Iterable[int]) -> None:
        """Zeroise what is staged of these blocks: their request has ended."""
        with self._lock:
            for block in blocks:
                self._predictor.forget(block)
                self._staging.drop_blocks([block])
            self._free = self._next

    def close(self) -> None:
        """Drop the batch and what is staged, erase the key."""
        with self._lock:
            self._closed = True
            self._staging.relinquish()
            self._drop_batch()
            self._form.close()

    def _staged(self, block: int, version: int) -> Frame | None:
        entry = self._staging.take(block, version)
        if entry is None or entry.frame is None:
            self._free = self._next  # what was dropped has left its number
            return None
        number, frame = entry.number, entry.frame
        if not self._form.ordered:
            number = self._first_free()
            frame = replace(frame, counter=number)
        self._put(number, frame, entry.buffer)
        self._count("hidden_s", max(0.0, entry.seconds))
        return frame

    def _seal_now(self, block: int) -> Frame:
        number = self._number_for_miss()
        version, data = self._store.snapshot(block)
        buffer = self._buffers.take(len(data) + TAG)
        frame = self._form.seal(number, 0, block, version, data, buffer)
        if self._store.snapshot(block)[0] != version:
            self._buffers.wipe(buffer)
            raise BlockBusy("the block was written while it was sealed")
        self._put(number, frame, buffer)
        return frame

    def _put(self, number: int, frame: Frame, buffer: memoryview) -> None:
        self._batch[number] = frame, buffer
        self._top = max(self._top, number)

    def _number_for_miss(self) -> int:
        """One that takes nothing away from what is staged, or else nothing stays staged."""
        number, lowest = self._first_free(), self._staging.lowest
        crowded = len(self._staging) >= max(1, self._depth)
        fits = not crowded if not self._form.ordered else lowest is None or number < lowest
        if fits or number < self._top:
            return number
        self._relinquish()
        return self._first_free()

    def _first_free(self) -> int:
        number = self._free
        ordered = self._form.ordered
        while number in self._batch or (ordered and number in self._staging):
            number += 1
        self._free = number
        return number

    def _relinquish(self) -> None:
        if len(self._staging):
            self._staging.relinquish()
            self._count("relinquishes")
            self._settled = True
        self._free = self._next

    @property
    def _gap_now(self) -> int:
        """Numbers that misses of the next batch may take; none while there are no misses."""
        return self._gap if self._trust.missed else 0

    def _expect(self, count: int) -> None:
        """Between two batches what is staged is put in order, as far as it is known by now."""
        if self._form.ordered and self._depth and self._trust.staging:
            self._staging.straighten(self._predictor.predict(self._depth))
            self._free = self._next
        self._refill(count, self._gap_now)

    def _refill(self, count: int, gap: int) -> None:
        """What is not expected any more makes room for what is."""
        if self._depth and self._trust.staging:
            wanted = self._predictor.predict(count)
            missing = self._staging.missing(wanted)
            self._settled = not missing and 0 < len(wanted) < count
            if len(self._staging) + len(missing) > self._depth:
                self._staging.keep(wanted)
                self._free = self._next
            if missing:
                self._stage(wanted, gap)

    def _stage(self, ids: Iterable[int], gap: int) -> None:
        number = max(self._next - 1, self._top, self._staging.highest) + 1 + gap
        for block in self._staging.missing(ids):
            if self._staging.count_above(self._top) >= self._depth:
                break
            if block in self._store and self._staging.stage(number, block):
                number += 1

    def _release(self) -> None:
        if not self._batch:
            return
        if self._form.ordered:
            self._fill_with_nops()
        released = [self._batch[number] for number in sorted(self._batch)]
        self._next, self._batch = self._top + 1, {}
        self._free = self._next
        buffers = [buffer for _, buffer in released if buffer is not None]
        self._link.send([frame for frame, _ in released], lambda: self._give(buffers))
        self._form.passed(self._next)

    def _fill_with_nops(self) -> None:
        idle = [number for number in range(self._next, self._top) if number not in self._batch]
        self._staging.drop(idle)
        for number in idle:
            nop = self._form.seal(number, NOP, 0, 0, b"", memoryview(bytearray(TAG)))
            self._batch[number] = nop, None
        self._count("nops", len(idle))

    def _give(self, buffers: Iterable[memoryview]) -> None:
        for buffer in buffers:
            self._buffers.give(buffer)

    def _drop_batch(self) -> None:
        for _, buffer in self._batch.values():
            if buffer is not None:
                self._buffers.wipe(buffer)
        self._batch, self._top = {}, -1

    def _count(self, name: str, more: float = 1) -> None:
        self._sums[name] += more
