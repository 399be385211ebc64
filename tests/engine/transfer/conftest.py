"""Two ends of a channel over a link that can be made to lie."""

from types import SimpleNamespace

import pytest

from engine.transfer.blocks import BlockStore
from engine.transfer.channel import open_channel
from engine.transfer.link import MemoryLink

SECRET = bytes(range(32))


@pytest.fixture
def ends():
    """Make host and device over blocks 1 to `count`: the host's are filled, the device's wait."""

    def make(kind="sealed", *, count=8, size=64, device=(), **host):
        stores = BlockStore(), BlockStore()
        links = MemoryLink(), MemoryLink()
        for block in range(1, count + 1):
            stores[0].add(block, bytearray([block]) * size)
            stores[1].reserve(block, bytearray(size))
        both = {"secret": SECRET, "attested": kind != "plain"}
        made = SimpleNamespace(
            stores=stores,
            host_link=links[0],
            device_link=links[1],
            host=open_channel(kind, stores[0], links[0], side="host", **both, **host),
            device=open_channel(kind, stores[1], links[1], side="device", **both, **dict(device)),
        )

        def cross():
            made.host.sync()
            return [made.device.receive(frame) for frame in made.host_link.take()]

        made.cross = cross
        return made

    return make
