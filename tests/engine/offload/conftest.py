"""An engine whose preempted sequences go to an emulated device's host, and links that lie."""

from types import SimpleNamespace

import pytest

from engine.offload.device_memory import DeviceMemory
from engine.offload.offload import Offload
from engine.transfer.store import SealedStore

SECRET = bytes(range(32))


def join(pool, *, capacity=1 << 24, kind="sealed", limit=None, folder=None, **host):
    """A pool's device end and host end."""
    both = {"kind": kind, "secret": SECRET, "attested": kind != "plain"}
    device = DeviceMemory(pool, limit=limit, **both)
    room = SealedStore(capacity, folder=folder)
    offload = Offload(device, room, **both, **host)
    return SimpleNamespace(pool=pool, device=device, room=room, host=offload)


@pytest.fixture
def offloading(local_engine):
    """A function (**config) -> a LocalEngine with offload, its parts as `.ends`."""
    made = []

    def make(*, options=None, **config):
        local = local_engine(**config)
        local.ends = join(local.pool, **(options or {}))
        local.engine._scheduler._outside = local.ends.host
        made.append(local)
        return local

    yield make
    for local in made:
        for key in list(local.engine._entries):
            local.engine.drop(key)
        assert local.ends.room.used == 0
        local.ends.host.close()
