"""Zeroing what steps leave in device memory that nobody owns any more.

Torch's allocator keeps freed memory and hands it out again as it is, and a graph's memory is not
touched between its replays: activations of a finished request would lie in both. The allocator
can say where its free ranges are; they are overwritten whenever a sequence's blocks are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

Range = tuple[int, int]
"""Address and bytes."""
_FREE = {"inactive", "active_pending_free", "active_awaiting_free"}
_CHUNK = 4096


def free_ranges(segments: Iterable[Mapping[str, Any]], device: int) -> list[Range]:
    """Return the ranges of the allocator's memory that hold no tensor, adjacent ones joined.

    `segments` is what `torch.cuda.memory_snapshot()` returns.
    """
    ranges: list[Range] = []
    for segment in segments:
        if segment["device"] != device:
            continue
        at = segment["address"]
        for block in segment["blocks"]:
            if block["state"] in _FREE:
                if ranges and sum(ranges[-1]) == at:
                    ranges[-1] = (ranges[-1][0], ranges[-1][1] + block["size"])
                else:
                    ranges.append((at, block["size"]))
            at += block["size"]
    return ranges


def zero_range(address: int, size: int) -> None:
    """Zero a range of device memory. It must belong to nobody."""
    from engine.cuda import paged  # noqa: PLC0415 - Triton is there when a GPU is

    paged.zero_range[(-(-size // _CHUNK),)](address, size, chunk=_CHUNK)


class CudaEraser:
    """Zeroes the free memory of one device."""

    def __init__(
        self,
        device: torch.device,
        zero: Callable[[int, int], None] = zero_range,
        snapshot: Callable[[], Any] = torch.cuda.memory_snapshot,
    ) -> None:
        self._device = device
        self._zero = zero
        self._snapshot = snapshot

    def erase(self) -> None:
        """Zero every free range; on return it is done. Waits for the device, before and after."""
        torch.cuda.synchronize(self._device)
        index = torch.cuda.current_device() if self._device.index is None else self._device.index
        for address, size in free_ranges(self._snapshot(), index):
            self._zero(address, size)
        torch.cuda.synchronize(self._device)
