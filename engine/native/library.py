"""The compiled library beside this file, and its C structures. Built with the wheel, never later.

`src/model.cpp` says what the members mean. Without the library, or on a processor that lacks what
it was compiled for, `load` says why and the engine computes through torch.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from engine.errors import EngineError

FILE = Path(__file__).with_name("_decoder.so")

_POINTER = ctypes.c_void_p
_INT = ctypes.c_int32


class NativeUnavailable(EngineError):
    """The library cannot be used here; the message says why."""


class Weights(ctypes.Structure):
    """A packed weight matrix (`src/linear.h`)."""

    _fields_ = (
        ("values", _POINTER),
        ("scales", _POINTER),
        ("bias", _POINTER),
        ("depth", ctypes.c_int),
        ("panels", ctypes.c_int),
    )


class Layer(ctypes.Structure):
    """One decoder layer and its part of the KV pool."""

    _fields_ = (
        ("attention_norm", _POINTER),
        ("mlp_norm", _POINTER),
        ("attention_post_norm", _POINTER),
        ("mlp_post_norm", _POINTER),
        ("query_norm", _POINTER),
        ("key_norm", _POINTER),
        ("qkv", Weights),
        ("output", Weights),
        ("gate_up", Weights),
        ("down", Weights),
        ("keys", _POINTER),
        ("values", _POINTER),
        ("window", _INT),
        ("rotary", _INT),
    )


class Model(ctypes.Structure):
    """A decoder."""

    _fields_ = (
        ("layers", _POINTER),
        ("final_norm", _POINTER),
        ("head", Weights),
        ("frequencies", _POINTER),
        ("rotary_scales", _POINTER),
        ("epsilon", ctypes.c_float),
        ("scaling", ctypes.c_float),
        ("score_cap", ctypes.c_float),
        ("logit_cap", ctypes.c_float),
        ("embedding_scale", ctypes.c_float),
        ("residual_scale", ctypes.c_float),
        ("logit_scale", ctypes.c_float),
        ("activation", _INT),
        ("gated", _INT),
        ("centred", _INT),
        ("parallel", _INT),
        ("whole_norms", _INT),
        ("tables", _INT),
        ("layer_count", _INT),
        ("hidden", _INT),
        ("heads", _INT),
        ("key_heads", _INT),
        ("size", _INT),
        ("intermediate", _INT),
        ("vocabulary", _INT),
        ("block_size", _INT),
        ("max_rows", _INT),
    )


class Transcript(ctypes.Structure):
    """What a step leaves for whoever checks it."""

    _fields_ = (
        ("products", _POINTER * 4),
        ("inputs", _POINTER * 4),
        ("queries", _POINTER),
        ("keys", _POINTER),
        ("values", _POINTER),
        ("final", _POINTER),
        ("scores", _POINTER),
        ("score_at", _POINTER),
    )


class Step(ctypes.Structure):
    """The rows of one step."""

    _fields_ = (
        ("embeddings", _POINTER),
        ("positions", _POINTER),
        ("slots", _POINTER),
        ("first_row", _POINTER),
        ("first_block", _POINTER),
        ("blocks", _POINTER),
        ("logit_rows", _POINTER),
        ("logits", _POINTER),
        ("told", _POINTER),
        ("rows", _INT),
        ("spans", _INT),
        ("wanted", _INT),
    )


@functools.cache
def load() -> ctypes.CDLL:
    """Load the library.

    Raises:
        NativeUnavailable: it was not built, or this processor lacks AVX-512 BF16, VNNI or AMX.
    """
    if not FILE.exists():
        raise NativeUnavailable("the compiled library was not built into this installation")
    try:
        library = ctypes.CDLL(str(FILE))
    except OSError as error:
        raise NativeUnavailable("the compiled library cannot be loaded") from error
    library.sottovoce_create.restype = _POINTER
    library.sottovoce_create.argtypes = (_POINTER, ctypes.c_int)
    library.sottovoce_step.argtypes = (_POINTER, _POINTER)
    library.sottovoce_step.restype = None
    library.sottovoce_clear.argtypes = (_POINTER,)
    library.sottovoce_clear.restype = None
    library.sottovoce_destroy.argtypes = (_POINTER,)
    library.sottovoce_destroy.restype = None
    library.sottovoce_sampler.restype = _POINTER
    library.sottovoce_sampler.argtypes = (ctypes.c_int,)
    library.sottovoce_sample.restype = None
    library.sottovoce_sample.argtypes = (
        _POINTER, _POINTER, ctypes.c_int, ctypes.c_int, _POINTER, _POINTER,
    )  # fmt: skip
    if not library.sottovoce_supported():
        raise NativeUnavailable("this processor lacks AVX-512 BF16, VNNI or AMX")
    return library
