"""The errors of this package.

    EngineError
    ├── InvalidRequest     a request's parameters are out of range, or its slot is inconsistent
    ├── EngineGone         the engine process closed the slot socket; nothing more will come
    ├── ModelRefused       this folder is not served, and the message says why
    │   ├── ModelFiles     the folder is incomplete, unreadable, or not safetensors
    │   ├── UnsupportedModel   the architecture does not fit the paged KV pool
    │   └── ConversionMismatch the converted model does not compute what the stock one does
    └── OutOfBlocks        the KV pool cannot hold what was asked for, now

    RankLost(BaseException)    a rank of a parallel engine is gone, and the engine with it

No message quotes token ids, probabilities or prompts.
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of every error raised by `engine`."""


class InvalidRequest(EngineError):
    """A request's parameters are out of range, or the slot that carries them is inconsistent."""


class EngineGone(EngineError):
    """The engine process closed the slot socket; no slot of it will change any more."""


class ModelRefused(EngineError):
    """The model folder is not served; the message says why."""


class ModelFiles(ModelRefused):
    """The folder is incomplete, unreadable, or holds weights in another form than safetensors."""


class UnsupportedModel(ModelRefused):
    """The architecture does not fit one paged KV pool with our attention."""


class ConversionMismatch(ModelRefused):
    """After conversion the model does not compute what the stock implementation computes."""


class OutOfBlocks(EngineError):
    """The KV pool has too few free blocks for what was asked."""


class RankLost(BaseException):
    """A rank of the group is gone, or can no longer do its part.

    Not an Exception: a failed step ends its sequences and the engine goes on, but not on a part
    of its model.
    """
