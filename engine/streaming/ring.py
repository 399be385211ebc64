"""The device's few buffers for layers, and the sealed way to them.

A layer's tensors lie in private memory, cut into units. While the device computes a layer, those
that follow are on their way into the other buffers of the ring; the channel sees that layers go
round, and seals ahead of that. A buffer is overwritten only when its layer has been used.

EMULATED: the buffers are memory of this process which only the device's end writes to.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from engine.aead import KEY, Buffer
from engine.errors import EngineError
from engine.streaming.layer import Layer
from engine.transfer.blocks import BlockStore
from engine.transfer.channel import Kind, open_channel
from engine.transfer.counts import TransferCounts
from engine.transfer.errors import BlockUnusable, FrameRefused
from engine.transfer.link import Link, MemoryLink
from engine.transfer.predict import Cyclic, Never
from engine.transfer.sealer import Sealer

UNIT = 1 << 20
"""Bytes of a unit at most."""


class Ring:
    """Buffers that layers pass through. One thread uses it."""

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        buffers: int,
        kind: Kind,
        secret: Buffer,
        attested: bool = True,
        unit: int = UNIT,
        link: Callable[[Link], Link] = lambda arriving: arriving,
        sealer: Sealer | None = None,
        opener: Sealer | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Begin with empty buffers.

        Args:
            layers: in the order of their use.
            buffers: of the ring; each holds the largest layer.
            kind: who encrypts.
            secret: of the channel.
            attested: whether the policy is attested.
            unit: bytes that are sealed at a time.
            link: makes a way out of what leads to the device.
            sealer: seals ahead; inline (deterministic) unless told.
            opener: opens on the device's side; likewise.
            random: makes secrets.

        Raises:
            EngineError: fewer than two buffers.
        """
        if buffers < 2:
            raise EngineError("a ring has two buffers at least: one is used, one is filled")
        self._layers, self._random = layers, random
        size = max(layer.size for layer in layers)
        self._memory = [memoryview(bytearray(size)) for _ in range(buffers)]
        self._held: list[int | None] = [None] * buffers
        self._coming: dict[int, list[Future[int]]] = {}
        self._arriving = MemoryLink()
        self._host, self._device = BlockStore(), BlockStore()
        self._units = [_cut(self._host, index, layers[index], unit) for index in range(len(layers))]
        depth = 2 * max(len(units) for units in self._units)
        out = link(self._arriving)
        self._send = open_channel(
            kind, self._host, out, side="host", secret=secret, attested=attested,
            predictor=Cyclic(), depth=depth, sealer=sealer,
        )  # fmt: skip
        self._take = open_channel(
            kind, self._device, MemoryLink(), side="device", secret=secret, attested=attested,
            predictor=Never(), depth=0, opener=opener,
        )  # fmt: skip

    @property
    def size(self) -> int:
        """Bytes of the device that the ring takes."""
        return sum(len(memory) for memory in self._memory)

    @property
    def counts(self) -> TransferCounts:
        """What the channel counted."""
        return self._send.stats()

    def enter(self, index: int) -> None:
        """A layer is used next: bind it to its buffer, once it is there.

        Raises:
            FrameRefused: it is not what was sent; nothing is bound, and the ring begins anew.
        """
        if index not in self._held:
            self._fill_from(index)
        buffer = self._held.index(index)
        try:
            for arrival in self._coming.pop(index, []):
                arrival.result()
            for name, _, _ in self._units[index]:
                self._device.read(name)
        except (FrameRefused, BlockUnusable):
            self.restart()
            raise FrameRefused("a layer did not arrive as it was sent") from None
        self._layers[index].bind(self._memory[buffer])

    def leave(self, index: int) -> None:
        """A layer was used: its buffer takes the one that is furthest from being there."""
        self._layers[index].unbind()
        following = (index + len(self._memory)) % len(self._layers)
        if following not in self._held:
            self._fetch(following, self._held.index(index))

    def restart(self) -> None:
        """Both ends begin again under fresh secrets, with empty buffers."""
        self._empty()
        self._arriving.arrived.clear()
        to_device, to_host = self._random(KEY), self._random(KEY)
        self._send.restart(to_device, to_host, "host")
        self._take.restart(to_device, to_host, "device")

    def close(self) -> None:
        """Erase the keys, end the threads."""
        self._send.close()
        self._take.close()

    def _fill_from(self, first: int) -> None:
        """Somebody jumped: this layer and those after it, in whatever buffers."""
        self._empty()
        for buffer in range(min(len(self._memory), len(self._layers))):
            self._fetch((first + buffer) % len(self._layers), buffer)

    def _empty(self) -> None:
        """Let go of every buffer, once nothing is written to it any more."""
        for arrivals in self._coming.values():
            for arrival in arrivals:
                arrival.exception()
        self._coming.clear()
        for buffer in range(len(self._memory)):
            self._let_go(buffer)

    def _let_go(self, buffer: int) -> None:
        held = self._held[buffer]
        if held is not None:
            self._layers[held].unbind()
            for name, _, _ in self._units[held]:
                self._device.remove(name)
        self._held[buffer] = None

    def _fetch(self, index: int, buffer: int) -> None:
        """Send a layer into a buffer, as one batch; does not wait for it."""
        self._let_go(buffer)
        self._held[buffer] = index
        for name, start, stop in self._units[index]:
            self._device.reserve(name, self._memory[buffer][start:stop])
            self._send.send(name)
        self._send.sync()
        self._coming[index] = []
        try:
            frames = self._arriving.take()
        except FrameRefused:
            return  # what is missing shows when the layer is entered
        self._coming[index] += [self._take.receive(frame) for frame in frames]


def _cut(store: BlockStore, index: int, layer: Layer, unit: int) -> list[tuple[int, int, int]]:
    """Put a layer into a store, in units; return each one's id, start and stop."""
    units = []
    for start in range(0, layer.size, unit):
        stop = min(start + unit, layer.size)
        name = (index << 32 | start // unit) + 1
        store.add(name, memoryview(layer.packed)[start:stop])
        units.append((name, start, stop))
    return units
