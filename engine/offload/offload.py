"""The host's end: sequences leave the device when they are preempted, and come back uncomputed.

    leave       the device sends the blocks; they are opened here and put to rest, sealed anew
    expect      those that return next are made ready: opened, and sealed ahead for the channel
    come_back   they are sent, and stand in the blocks that the sequence was given
    forget      the request has ended: its key is overwritten, nothing of it is left

Whatever finds no room is computed again, as if there were no offload. What is refused, in flight
or at rest, fails its own sequence; what was on the way beside it is computed again, for the
channel restarts under fresh secrets.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Hashable, Mapping, Sequence

from engine.aead import KEY, TAG
from engine.offload.counts import Crossings, OffloadCounts
from engine.offload.device_memory import BATCH, DeviceMemory
from engine.offload.queue import Queue
from engine.offload.stay import Stay
from engine.transfer.blocks import BlockStore
from engine.transfer.buffers import Buffers
from engine.transfer.channel import Kind, open_channel
from engine.transfer.counts import TransferCounts
from engine.transfer.errors import FrameRefused, TransferError
from engine.transfer.sealer import InlineSealer, Sealer
from engine.transfer.store import SealedStore

DEPTH = 2 * BATCH
"""Units that are ready, and sealed ahead, at most."""


class Offload:
    """One thread uses it: the one that serves."""

    def __init__(
        self,
        device: DeviceMemory,
        room: SealedStore,
        *,
        kind: Kind,
        secret: bytes,
        attested: bool = True,
        sealer: Sealer | None = None,
        worker: Sealer | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Begin with nothing outside.

        Args:
            device: the other end.
            room: for what is at rest, in host memory or on disk.
            kind: who encrypts on the way; as the device's.
            secret: of the channel, as the device's.
            attested: whether the policy is attested.
            sealer: seals ahead; inline (deterministic) unless told.
            worker: opens, puts to rest and makes ready; likewise.
            random: makes names of units, and secrets.
        """
        self._device, self._room, self._random = device, room, random
        self._worker = InlineSealer() if worker is None else worker
        self._ready, self._store, self._buffers = Queue(), BlockStore(), Buffers()
        self._channel = open_channel(
            kind, self._store, device.to_device, side="host", secret=secret, attested=attested,
            predictor=self._ready, depth=DEPTH, sealer=sealer, opener=self._worker,
        )  # fmt: skip
        self._stays: dict[Hashable, Stay] = {}
        self._crossings: dict[Hashable, Crossings] = {}
        self._broken = False
        """Something was missing or no frame: both ends have to begin again."""
        self.counts = OffloadCounts()

    @property
    def transfers(self) -> TransferCounts:
        """What the channel counted."""
        return self._channel.stats()

    def crossings(self, key: Hashable) -> Crossings:
        """Return what crossed of a sequence so far."""
        return self._crossings.get(key, Crossings())

    def leave(self, key: Hashable, blocks: Sequence[int]) -> None:
        """Take a sequence's blocks outside, the first ones if there is no room for all.

        On return the pool's blocks may be zeroed.
        """
        self._recover()
        taken = blocks[: self._fitting(len(blocks))]
        self.counts.shortened += 0 < len(taken) < len(blocks)
        stay = self._begin(taken)
        if stay is None:
            self.counts.without += 1
            return
        self.counts.left += 1
        self._stays[key] = stay
        self._device.unload(taken, stay.names)
        self._receive(stay)
        self._crossings[key] = self.crossings(key).unloaded(len(stay.names))
        stay.cool_all(self._worker)
        self._recover()

    def expect(self, keys: Sequence[Hashable]) -> None:
        """These will come back next, in this order: make ready what there is room for."""
        left = DEPTH
        for key in keys:
            stay = self._stays.get(key)
            if stay is not None and left > 0:
                count = min(left, len(stay.names))
                stay.warm(self._worker, range(count), self._stage)
                left -= count

    def come_back(self, key: Hashable, blocks: Sequence[int]) -> int:
        """Bring a sequence's blocks back; return how many of them, the first ones, are there.

        Raises:
            TransferError: something was refused; the sequence has to end, its blocks be zeroed.
        """
        stay = self._stays.pop(key, None)
        if stay is None:
            return 0
        try:
            stay.wait()
            back = self._return(key, stay, blocks)
        except TransferError:
            self.counts.failed += 1
            raise
        finally:
            self._end(stay)
            self._recover()
        self.counts.returned += back > 0
        self.counts.blocks += back
        return back

    def forget(self, key: Hashable) -> None:
        """A request has ended: erase what is outside. Unknown keys pass."""
        self._crossings.pop(key, None)
        if (stay := self._stays.pop(key, None)) is not None:
            self._end(stay)

    def restart(self) -> None:
        """The device's session began anew: go on under fresh secrets. What is at rest stays."""
        to_device, to_host = self._random(KEY), self._random(KEY)
        for stay in self._stays.values():
            stay.wait()
        self._device.restart(to_device, to_host)
        self._channel.restart(to_device, to_host, "host")
        self._broken = False
        self.counts.restarts += 1

    def close(self) -> None:
        """Erase everything, end the threads."""
        for key in list(self._stays):
            self.forget(key)
        self._channel.close()
        self._device.close()
        self._room.close()

    def _fitting(self, blocks: int) -> int:
        """How many blocks there is room for; a worker may find less when it comes to it."""
        units = self._device.units
        return min(blocks, self._room.free // (units.block_bytes + TAG * units.count))

    def _begin(self, blocks: Sequence[int]) -> Stay | None:
        if not blocks:
            return None
        try:
            rest = self._room.begin()
        except OSError:  # the folder takes no file
            return None
        sizes = self._device.units.sizes * len(blocks)
        names = [self._name() for _ in sizes]
        return Stay(rest, names, sizes, store=self._store, buffers=self._buffers, ready=self._ready)

    def _name(self) -> int:
        """Random, so that the link does not show which unit is whose; 0 is a NOP's."""
        while (name := int.from_bytes(self._random(8), "big")) == 0 or name in self._store:
            pass
        return name

    def _receive(self, stay: Stay) -> None:
        """Take what the device sent; it is opened by the worker."""
        try:
            frames = self._device.to_host.take()
        except FrameRefused:
            frames = []
        for frame in frames:
            stay.arrived(frame.block, self._channel.receive(frame))
        self._channel.received()
        if len(stay.names) > sum(frame.flags == 0 for frame in frames):
            stay.fault = FrameRefused("not every unit arrived as a frame")
            self._broken = True

    def _return(self, key: Hashable, stay: Stay, blocks: Sequence[int]) -> int:
        if stay.fault is not None:
            raise stay.fault
        if stay.lost:
            return 0
        count = self._device.units.count
        back = min(stay.kept // count, len(blocks))
        before = self._channel.stats()
        for first in range(0, back * count, BATCH):
            batch = range(first, min(first + BATCH, back * count))
            self._send(stay, batch)
            places = {stay.names[i]: (blocks[i // count], i % count) for i in batch}
            self._load(places)
        self._crossings[key] = self.crossings(key).loaded(self._channel.stats() - before)
        return back

    def _load(self, places: Mapping[int, tuple[int, int]]) -> None:
        try:
            self._device.load(places)
        except FrameRefused:
            self._broken = True
            raise

    def _send(self, stay: Stay, batch: range) -> None:
        stay.warm(self._worker, batch, self._stage)
        stay.wait()
        if stay.fault is not None:
            raise stay.fault
        for number in batch:
            self._channel.send(stay.names[number])
        self._channel.sync()
        for number in batch:
            stay.discard(number)
        stay.warm(self._worker, range(batch.stop, batch.stop + BATCH), self._stage)

    def _stage(self, name: int) -> None:
        self._channel.stage([name])

    def _end(self, stay: Stay) -> None:
        stay.stop()
        self._channel.forget(stay.names)
        stay.wipe()

    def _recover(self) -> None:
        """Nothing more is taken by a session in which something was refused."""
        if self._broken or self._channel.faulted or self._device.faulted:
            self.restart()
