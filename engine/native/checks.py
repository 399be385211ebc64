"""T's checks in the library (`src/verify.cpp`); the same in torch is in `engine.verification`."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.native import library

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int32
_OUT = 18


class Strided(ctypes.Structure):
    """Rows, [layers][count][width], somewhere; strides in numbers."""

    _fields_ = (
        ("rows", _POINTER),
        ("layer_stride", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("width", _INT),
    )


class SketchedRows(ctypes.Structure):
    """Rows of a product, and the sketch of its weights."""

    _fields_ = (
        ("outputs", Strided),
        ("inputs", Strided),
        *((name, _POINTER) for name in ("secrets", "sketch", "spread", "bias", "out")),
        ("layers", _INT),
        ("count", _INT),
    )


class JudgedRows(ctypes.Structure):
    """Rows of products, and what passes."""

    _fields_ = (
        *((name, _POINTER) for name in ("found", "floor", "energy", "peak", "passed")),
        ("layers", _INT),
        ("count", _INT),
        *((name, ctypes.c_float) for name in ("variance", "smallest", "scalar", "row")),
    )


@dataclass(frozen=True)
class Sketched:
    """Opened rows of one matrix, and its sketch.

    Attributes:
        outputs: bfloat16 [layers, rows, outputs].
        inputs: bfloat16 [layers, rows, inputs]; the sketch has them twice.
        secrets: of the outputs, bfloat16, for all layers.
        packed: the sketch, bfloat16.
        spread: float32 [outputs].
        bias: float32 [layers, 16].
    """

    outputs: Tensor
    inputs: Tensor
    secrets: Tensor
    packed: Tensor
    spread: Tensor
    bias: Tensor


class Opened(ctypes.Structure):
    """A matrix's opened rows."""

    _fields_ = (("outputs", Strided), ("inputs", Strided))


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
    """Return the library, or None where torch has to do: also one that was built without this."""
    try:
        found = library.load()
    except library.NativeUnavailable:
        return None
    if not hasattr(found, "sottovoce_judge"):
        return None
    found.sottovoce_residuals.restype = None
    found.sottovoce_residuals.argtypes = (_POINTER, _INT, _INT)
    found.sottovoce_judge.restype = None
    found.sottovoce_judge.argtypes = (_POINTER,)
    found.sottovoce_replay.restype = None
    found.sottovoce_replay.argtypes = (_POINTER, _INT)
    return found


def residuals(found: ctypes.CDLL, products: Sequence[Sketched]) -> Tensor:
    """Return z, what rounding explains of it, and |x|^2: float32 [all layers, rows, 18].

    Args:
        found: the library.
        products: of as many rows each; their layers come one after the other.
    """
    counts = [len(each.outputs) for each in products]
    out = torch.empty(sum(counts), products[0].outputs.shape[1], _OUT)
    parts = zip(products, torch.split(out, counts), strict=True)
    works = (SketchedRows * len(products))(*(_sketched(each, own) for each, own in parts))
    found.sottovoce_residuals(works, len(products), torch.get_num_threads())
    return out


def _sketched(product: Sketched, out: Tensor) -> SketchedRows:
    layers, count, _ = product.outputs.shape
    kept = product.secrets, product.packed, product.spread, product.bias, out
    rows = strided(product.outputs), strided(product.inputs)
    return SketchedRows(*rows, *map(pointer, kept), layers, count)


def opened(outputs: Tensor, inputs: Tensor) -> Opened:
    """Return rows of a product, [layers, rows, outputs] and [layers, rows, inputs]."""
    return Opened(strided(outputs), strided(inputs))


def strided(rows: Tensor) -> Strided:
    """Return rows as the library reads them, [layers, rows, width].

    Raises:
        ValueError: the numbers of a row do not lie side by side.
    """
    layer, row, number = rows.stride()
    if number != 1:
        raise ValueError("the library reads rows in one piece")
    return Strided(rows.data_ptr(), layer, row, rows.shape[2])


def judge(
    found: ctypes.CDLL, rows: Tensor, floor: Tensor, limits: tuple[float, float, float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return whether rows passed, their energies and peaks, each [layers, rows].

    Args:
        found: the library.
        rows: what `residuals` returned.
        floor: float32 [layers].
        limits: variance of a rounding, the smallest variance, the most that a square and that a
            mean square may be.
    """
    layers, count, _ = rows.shape
    energy, peak = torch.empty(2, layers, count)
    passed = torch.empty(layers, count, dtype=torch.bool)
    tensors = rows, floor, energy, peak, passed
    work = JudgedRows(*map(pointer, tensors), layers, count, *limits)
    found.sottovoce_judge(ctypes.byref(work))
    return passed, energy, peak


def pointer(tensor: Tensor) -> int:
    """Return where a tensor lies.

    Raises:
        ValueError: it is not contiguous.
    """
    if not tensor.is_contiguous():
        raise ValueError("the library reads contiguous tensors")
    return tensor.data_ptr()
