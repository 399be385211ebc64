"""The device's end of the way: units leave its pool for the link, and come back from there.

EMULATED where there is no other memory: the pool and the units stand in a region of this process
that nothing but this end touches, and what crosses crosses as bytes. On a GPU the pool is in its
memory, units are gathered there and cross by one copy into page-locked memory, which the driver
encrypts (channels of the form `cc`); a kernel of ours seals nothing there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from engine.aead import Buffer
from engine.kv_cache import KVPool
from engine.offload.units import Units
from engine.transfer.blocks import BlockStore
from engine.transfer.buffers import Buffers
from engine.transfer.channel import Duplex, Kind, open_channel
from engine.transfer.cuda_link import pinned
from engine.transfer.errors import BlockUnusable, FrameRefused
from engine.transfer.link import MemoryLink
from engine.transfer.predict import Never

BATCH = 16
"""Units that cross together."""


class DeviceMemory:
    """A pool's units, and the channel that they cross by."""

    def __init__(
        self,
        pool: KVPool,
        *,
        kind: Kind,
        secret: Buffer,
        attested: bool = True,
        limit: int | None = None,
    ) -> None:
        """Begin with nothing on the way.

        Args:
            pool: of the device.
            kind: who encrypts.
            secret: of the channel.
            attested: whether the policy is attested.
            limit: bytes of a unit; see `Units`.
        """
        self.units = Units(pool) if limit is None else Units(pool, limit)
        self.to_host, self.to_device = MemoryLink(), MemoryLink()
        self._buffers = Buffers(pinned) if pool.device.type == "cuda" else Buffers()
        self._store = BlockStore()
        self._held: dict[int, memoryview] = {}
        self._channel: Duplex = open_channel(
            kind, self._store, self.to_host, side="device", secret=secret, attested=attested,
            predictor=Never(), depth=0,
        )  # fmt: skip

    @property
    def faulted(self) -> bool:
        """Whether something was refused here: nothing more is taken until a restart."""
        return self._channel.faulted

    def unload(self, blocks: Sequence[int], names: Sequence[int]) -> None:
        """Send blocks, a batch at a time; on return the pool's blocks may be overwritten.

        Args:
            blocks: of the pool.
            names: of their units, block after block; none was used before.
        """
        for first in range(0, len(names), BATCH):
            batch = names[first : first + BATCH]
            try:
                for number, name in enumerate(batch, first):
                    block, unit = blocks[number // self.units.count], number % self.units.count
                    self.units.gather(block, unit, self._take(name, unit))
                    self._store.add(name, self._held[name])
                    self._channel.send(name)
                self._channel.sync()
            finally:
                self._drop(batch)

    def load(self, places: Mapping[int, tuple[int, int]]) -> None:
        """Take what has arrived, and write it into the pool.

        Args:
            places: of the units that were sent, by name: a block of the pool, and which unit of it.

        Raises:
            FrameRefused: something is not authentic, out of order or missing. A part of it may be
                in the pool; the blocks have to be zeroed.
        """
        try:
            for name, (_, unit) in places.items():
                self._store.reserve(name, self._take(name, unit))
            for taken in [self._channel.receive(frame) for frame in self.to_device.take()]:
                taken.result()
            for name, (block, unit) in places.items():
                self._store.read(name)
                self.units.scatter(block, unit, self._held[name])
        except BlockUnusable:
            raise FrameRefused("a unit did not arrive") from None
        finally:
            self._drop(places)

    def restart(self, to_device: Buffer, to_host: Buffer) -> None:
        """Begin again under fresh secrets; what was on the way is lost.

        Raises:
            SecretReused: a secret is not fresh.
        """
        self.to_host.arrived.clear()
        self.to_device.arrived.clear()
        self._channel.restart(to_device, to_host, "device")

    def close(self) -> None:
        """Erase the keys."""
        self._channel.close()

    def _take(self, name: int, unit: int) -> memoryview:
        self._held[name] = self._buffers.take(self.units.sizes[unit])
        return self._held[name]

    def _drop(self, names: Iterable[int]) -> None:
        for name in names:
            self._store.remove(name)
            if name in self._held:
                self._buffers.wipe(self._held.pop(name))
