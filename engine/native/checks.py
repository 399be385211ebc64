"""T's checks in the library (`src/verify.cpp`); the same in torch is in `engine.verification`."""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from engine.native import library

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int32
_OUT = 18


class SketchedRows(ctypes.Structure):
    """Rows of a product, and the sketch of its weights."""

    _fields_ = (
        ("rows", _POINTER),
        ("sketch", _POINTER),
        ("spread", _POINTER),
        ("bias", _POINTER),
        ("out", _POINTER),
        ("layers", _INT),
        ("count", _INT),
        ("outputs", _INT),
        ("inputs", _INT),
        ("stride", _INT),
    )


@functools.cache
def available() -> ctypes.CDLL | None:
    """Return the library, or None where torch has to do."""
    try:
        found = library.load()
    except library.NativeUnavailable:
        return None
    found.sottovoce_residuals.restype = None
    found.sottovoce_residuals.argtypes = (_POINTER,)
    return found


def residuals(
    found: ctypes.CDLL, rows: Tensor, *, packed: Tensor, spread: Tensor, bias: Tensor, inputs: int
) -> Tensor:
    """Return z, what rounding explains of it, and |x|^2: float32 [layers, rows, 18].

    Args:
        found: the library.
        rows: bfloat16 [layers, rows, outputs + ...], contiguous.
        packed: the sketch, bfloat16.
        spread: float32 [layers, outputs].
        bias: float32 [layers, 16].
        inputs: how many of the rows' members are inputs; the sketch has them twice.
    """
    layers, count, stride = rows.shape
    out = torch.empty(layers, count, _OUT)
    tensors = (rows, packed, spread, bias, out)
    if not all(tensor.is_contiguous() for tensor in tensors):
        raise ValueError("the library reads contiguous tensors")
    pointers = (tensor.data_ptr() for tensor in tensors)
    work = SketchedRows(*pointers, layers, count, spread.shape[1], inputs, stride)
    found.sottovoce_residuals(ctypes.byref(work))
    return out
