"""Both ends of the way for one engine, put together."""

from __future__ import annotations

import secrets

from engine.aead import KEY
from engine.config import EngineConfig
from engine.kv_cache import KVPool
from engine.offload.device_memory import DeviceMemory
from engine.offload.offload import Offload
from engine.transfer.sealer import WorkerSealer
from engine.transfer.store import SealedStore


def offload_of(config: EngineConfig, pool: KVPool) -> Offload | None:
    """Return where blocks of preempted sequences stay; None where they stay nowhere."""
    if not config.kv_offload_bytes:
        return None
    secret = secrets.token_bytes(KEY)
    return Offload(
        DeviceMemory(pool, kind="sealed", secret=secret),
        SealedStore(config.kv_offload_bytes),
        kind="sealed",
        secret=secret,
        sealer=WorkerSealer(name="sealer"),
        worker=WorkerSealer(name="opener"),
    )
