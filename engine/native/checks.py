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
        ("secrets", _POINTER),
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


class Opened(ctypes.Structure):
    """A matrix's opened rows."""

    _fields_ = (("rows", _POINTER), ("outputs", _INT), ("inputs", _INT))


class Replay(ctypes.Structure):
    """Rows to replay (`src/replay.h`)."""

    _fields_ = (
        *((name, Opened) for name in ("qkv", "output", "gate_up", "down")),
        *((name, _POINTER) for name in ("embeddings", "queries", "keys", "values")),
        *((name, _POINTER) for name in ("cosines", "sines")),
        ("norms", _POINTER * 6),
        *((name, _POINTER) for name in ("final_norm", "steps", "last")),
        *((name, ctypes.c_float) for name in ("epsilon", "embedding_scale", "residual_scale")),
        *((name, _INT) for name in ("activation", "gated", "centred", "parallel", "whole_norms")),
        *((name, _INT) for name in ("layers", "count", "hidden", "heads", "key_heads", "size")),
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
    found.sottovoce_replay.restype = None
    found.sottovoce_replay.argtypes = (_POINTER,)
    return found


def residuals(
    found: ctypes.CDLL,
    rows: Tensor,
    *,
    secrets: Tensor,
    packed: Tensor,
    spread: Tensor,
    bias: Tensor,
    inputs: int,
) -> Tensor:
    """Return z, what rounding explains of it, and |x|^2: float32 [layers, rows, 18].

    Args:
        found: the library.
        rows: bfloat16 [layers, rows, outputs + ...], contiguous.
        secrets: of the outputs, bfloat16, for all layers.
        packed: the sketch, bfloat16.
        spread: float32 [outputs].
        bias: float32 [layers, 16].
        inputs: how many of the rows' members are inputs; the sketch has them twice.
    """
    layers, count, stride = rows.shape
    out = torch.empty(layers, count, _OUT)
    tensors = (rows, secrets, packed, spread, bias, out)
    work = SketchedRows(*map(pointer, tensors), layers, count, len(spread), inputs, stride)
    found.sottovoce_residuals(ctypes.byref(work))
    return out


def pointer(tensor: Tensor) -> int:
    """Return where a tensor lies.

    Raises:
        ValueError: it is not contiguous.
    """
    if not tensor.is_contiguous():
        raise ValueError("the library reads contiguous tensors")
    return tensor.data_ptr()
