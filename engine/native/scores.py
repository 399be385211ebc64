"""T's check of decode attention in the library (`src/scores.cpp`)."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.native import library
from engine.native.checks import pointer

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int32
_FLOAT, _BFLOAT16 = 4, 2
_WIDE = 16


class SketchedScores(ctypes.Structure):
    """One row, and the sketches of what it sees."""

    _fields_ = (
        *((name, _POINTER) for name in ("scores", "queries", "outputs", "sums", "power")),
        *((name, _POINTER) for name in ("key_numbers", "value_numbers", "values", "squares")),
        *((name, _POINTER) for name in ("which", "out")),
        *((name, _INT) for name in ("layers", "heads", "key_heads", "size", "count")),
        *((name, _INT) for name in ("score_stride", "key_stride", "room")),
        ("scaling", ctypes.c_float),
    )


class TakenIn(ctypes.Structure):
    """A position's key and value, and the sketches that take them in."""

    _fields_ = (
        *((name, _POINTER) for name in ("keys", "values", "key_numbers", "value_numbers")),
        *((name, _POINTER) for name in ("sums", "power", "sketched", "squares", "which")),
        *((name, _INT) for name in ("layers", "key_heads", "size", "key_stride", "room")),
    )


@dataclass(frozen=True)
class Sketches:
    """What T keeps of a sequence, and the numbers that it was made with.

    Attributes:
        sums: float64 [layers, key heads, size, 4].
        power: float64 [layers, key heads].
        values: bfloat16 [layers, key heads, room, 16].
        squares: float32 [layers, key heads, room].
        key_numbers: int8 [every layer, key heads, 4, at least the row's position + 1].
        value_numbers: float32 [every layer, key heads, size, 16].
        which: int32 [layers]: which of every layer.
    """

    sums: Tensor
    power: Tensor
    values: Tensor
    squares: Tensor
    key_numbers: Tensor
    value_numbers: Tensor
    which: Tensor


@functools.cache
def available() -> ctypes.CDLL | None:
    """Return the library, or None where torch has to do: also one that was built without this."""
    try:
        found = library.load()
    except library.NativeUnavailable:
        return None
    if not hasattr(found, "sottovoce_take_in"):
        return None
    for function in (found.sottovoce_scores, found.sottovoce_take_in):
        function.restype, function.argtypes = None, (_POINTER,)
    return found


def take_in(
    found: ctypes.CDLL, keys: Tensor, values: Tensor, sketches: Sketches, position: int
) -> None:
    """Add a position to the sketches, which have room for it.

    Args:
        found: the library.
        keys: bfloat16 [layers, key heads, size].
        values: of the same shape.
        sketches: written to.
        position: counted from 0.
    """
    keys, values = keys.contiguous(), values.contiguous()
    work = TakenIn(
        *map(pointer, (keys, values)),
        pointer(sketches.key_numbers) + position,
        *map(pointer, (sketches.value_numbers, sketches.sums, sketches.power)),
        pointer(sketches.values) + position * _WIDE * _BFLOAT16,
        pointer(sketches.squares) + position * _FLOAT,
        pointer(sketches.which),
        *keys.shape,
        *(sketches.key_numbers.shape[-1], sketches.squares.shape[-1]),
    )
    found.sottovoce_take_in(ctypes.byref(work))


def residuals(
    found: ctypes.CDLL,
    row: tuple[Tensor, Tensor, Tensor],
    sketches: Sketches,
    *,
    low: int,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """Return how far a row's scores and output are off, float32 [layers, heads] each.

    Args:
        found: the library.
        row: query and output, bfloat16 [layers, heads, size]; scores, float32
            [layers, heads, position + 1].
        sketches: of the positions that the row sees.
        low: the first of them.
        scaling: of scores.
    """
    query, output, scores = (each.contiguous() for each in row)
    layers, heads, size = query.shape
    key_heads, context = sketches.power.shape[1], scores.shape[-1]
    out = torch.empty(2, layers, heads)
    work = SketchedScores(
        pointer(scores) + low * _FLOAT,
        *map(pointer, (query, output, sketches.sums, sketches.power)),
        pointer(sketches.key_numbers) + low,
        pointer(sketches.value_numbers),
        pointer(sketches.values) + low * _WIDE * _BFLOAT16,
        pointer(sketches.squares) + low * _FLOAT,
        *map(pointer, (sketches.which, out)),
        *(layers, heads, key_heads, size, context - low),
        *(context, sketches.key_numbers.shape[-1], sketches.squares.shape[-1]),
        scaling,
    )
    found.sottovoce_scores(ctypes.byref(work))
    return out[0], out[1]
