"""From an engine's configuration to the place where its preempted sequences wait."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from engine.aead import KEY
from engine.config import EngineConfig
from engine.kv_cache import KVPool
from engine.offload.device_memory import DeviceMemory
from engine.offload.offload import Offload
from engine.transfer.channel import Kind
from engine.transfer.store import SealedStore


def offload_of(config: EngineConfig, pool: KVPool) -> Offload | None:
    """Return what a scheduler takes as its `outside`; None where nothing waits outside.

    What crosses is sealed by us at both ends, so that the policy may say "sealed".
    """
    if config.kv_offload == "none":
        return None
    folder = Path(tempfile.gettempdir()) if config.kv_offload == "disk" else None
    kind: Kind = "sealed"
    secret = secrets.token_bytes(KEY)
    device = DeviceMemory(pool, kind=kind, secret=secret)
    room = SealedStore(config.kv_offload_bytes, folder=folder)
    return Offload(device, room, kind=kind, secret=secret)
