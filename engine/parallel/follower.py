"""A rank behind the front: it loads its part, then does what it is told."""

from __future__ import annotations

from torch import Tensor

from engine.config import EngineConfig
from engine.device import Device
from engine.kv_cache import KVPool
from engine.loader import LoadedModel, load
from engine.parallel.group import Group
from engine.parallel.orders import Order, decode_blocks, hear_step


def follow(config: EngineConfig, group: Group) -> None:
    """Load this rank's part, and do what rank 0 tells until nothing more will come.

    Raises:
        ModelRefused: the part is not served; the group ends.
        RankLost: another rank is gone.
    """
    loaded = load(config, None, group)
    device: Device | None = None
    while True:
        words, ids = group.hear()
        if words[0] == Order.END:
            return
        if words[0] == Order.ON:
            device = _device(loaded, words)
        elif device is not None:
            _obey(device, group, words, ids)


def _device(loaded: LoadedModel, words: list[int]) -> Device:
    blocks, block_size, max_rows, max_logit_rows = words[1:]
    pool = KVPool(
        loaded.shapes,
        blocks=blocks,
        block_size=block_size,
        dtype=loaded.dtype,
        device=loaded.device,
    )
    return loaded.computation.on(pool, max_rows=max_rows, max_logit_rows=max_logit_rows)


def _obey(device: Device, group: Group, words: list[int], ids: Tensor) -> None:
    rest = iter(words[1:])
    if words[0] == Order.STEP:
        batch = hear_step(group, words, ids)
        device.step(batch)
        batch.rows.zero_()
    elif words[0] == Order.FINISH:
        device.finish_step()
    elif words[0] == Order.COPY:
        device.copy_blocks(decode_blocks(rest), decode_blocks(rest))
    elif words[0] == Order.ZERO:
        device.zero_blocks(decode_blocks(rest))
        group.meet()
