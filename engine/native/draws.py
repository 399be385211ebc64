"""Draws by the compiled library: `engine.sampler` says what they mean."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.native import library


class Draw(ctypes.Structure):
    """How one row is drawn from (`src/sampler.cpp`)."""

    _fields_ = (
        ("temperature", ctypes.c_float),
        ("top_p", ctypes.c_float),
        ("min_p", ctypes.c_float),
        ("top_k", ctypes.c_int32),
        ("uniform", ctypes.c_double),
    )


GREEDY = Draw(temperature=0.0, top_p=1.0)
"""The most likely id."""


def available() -> bool:
    """Whether this processor and installation have the library."""
    try:
        library.load()
    except library.NativeUnavailable:
        return False
    return True


def draw(logits: Tensor, wishes: Sequence[Draw]) -> np.ndarray:
    """Draw an id from each row of `logits`, float32 [rows, vocabulary] on the CPU.

    Returns int64 [rows]; -1 where a row has nothing to draw from.
    """
    if logits.dtype != torch.float32 or not logits.is_contiguous():
        raise ValueError("logits are contiguous float32")
    rows, vocabulary = logits.shape
    # Not in numpy's memory: what is this small it keeps for the next array, as it was left.
    ids = np.frombuffer(bytearray(8 * rows), np.int64)
    draws = _array(rows)(*wishes)
    library.load().sottovoce_sample(
        _sampler(torch.get_num_threads()),
        logits.data_ptr(),
        rows,
        vocabulary,
        ctypes.byref(draws),
        ids.__array_interface__["data"][0],
    )
    return ids


@functools.cache
def _array(rows: int) -> type[ctypes.Array[Draw]]:
    """Return the type of so many draws: making it anew takes longer than drawing."""
    return Draw * rows


@functools.cache
def _sampler(threads: int) -> int:
    sampler: int = library.load().sottovoce_sampler(threads)
    return sampler
