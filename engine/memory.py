"""Memory in large pages: where gigabytes are read for every id, small ones cost a third of it.

Most kernels give them to those alone who ask. Where there are none, everything works, slower.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from math import prod

import torch
from torch import Tensor

_REGION = 64 << 20
"""Bytes that are asked for at once."""
_ALIGNMENT = 64


def region(size: int) -> mmap.mmap:
    """Return zeroed memory of `size` bytes; pages cost nothing until they are written."""
    taken = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE)
    with suppress(OSError):
        taken.madvise(mmap.MADV_HUGEPAGE)
    return taken


class Arena:
    """Tensors side by side in large regions, so that small ones share a page.

    A region is given back when the last of its tensors goes.
    """

    def __init__(self) -> None:
        self._region: mmap.mmap | None = None
        self._used = 0

    def copy(self, tensor: Tensor) -> Tensor:
        """Return a contiguous copy."""
        size = prod(tensor.shape) * tensor.element_size()
        if self._region is None or self._used + size > len(self._region):
            self._region, self._used = region(max(size, _REGION)), 0
        flat = torch.frombuffer(
            self._region, dtype=tensor.dtype, count=tensor.numel(), offset=self._used
        )
        self._used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return flat.view(tensor.shape).copy_(tensor)
