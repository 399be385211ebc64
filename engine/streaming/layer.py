"""One layer's tensors as one piece of memory, and the places where the layer looks for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import EngineError
from engine.linear import Member, PackedLinear, PlainLinear

_ALIGNMENT = 64


@dataclass
class _Piece:
    """A tensor: its form, where it lies in the layer's memory, and where it is looked for."""

    like: Tensor
    """Has its form, and no memory."""
    offset: int
    places: list[tuple[dict[str, Any], str]] = field(default_factory=list)

    def view(self, memory: memoryview) -> Tensor:
        flat = torch.frombuffer(
            memory, dtype=self.like.dtype, count=self.like.numel(), offset=self.offset
        )
        return flat.view(self.like.shape)

    def put(self, tensor: Tensor) -> None:
        for owner, name in self.places:
            parameter = isinstance(owner[name], nn.Parameter)
            owner[name] = nn.Parameter(tensor, requires_grad=False) if parameter else tensor


class Layer:
    """A layer of a torch model. Its tensors are taken out, and bound wherever they are next."""

    def __init__(self, module: nn.Module) -> None:
        """Take the tensors out, into `packed`.

        Raises:
            EngineError: some are in oneDNN's layout, which cannot be moved.
        """
        pieces: dict[int, _Piece] = {}
        sources: list[Tensor] = []  # kept meanwhile, so that no other object has their ids
        self.size = 0
        for owner, name in _places(module):
            tensor = owner[name]
            if id(tensor) not in pieces:
                sources.append(tensor)
                pieces[id(tensor)] = _Piece(tensor.to("meta"), self.size)
                bytes_ = tensor.numel() * tensor.element_size()
                self.size += -(-bytes_ // _ALIGNMENT) * _ALIGNMENT
            pieces[id(tensor)].places.append((owner, name))
        self._pieces = list(pieces.values())
        self.packed = bytearray(self.size)
        for piece, source in zip(self._pieces, sources, strict=True):
            piece.view(memoryview(self.packed)).copy_(source)
        self.unbind()

    def bind(self, memory: memoryview) -> None:
        """Let the layer read its tensors from a copy of `packed`."""
        for piece in self._pieces:
            piece.put(piece.view(memory))

    def unbind(self) -> None:
        """Let the layer find nothing: what it was bound to will be overwritten."""
        for piece in self._pieces:
            piece.put(piece.like)


def _places(module: nn.Module) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield where a module's tensors are kept: a dictionary, and the name in it."""
    for each in module.modules():
        if isinstance(each, Member):
            product = each._siblings._product  # noqa: SLF001 - no module of the layer's tree
            yield from _places(product)
        elif isinstance(each, PackedLinear):
            raise EngineError("weights in oneDNN's layout cannot be streamed; use float32")
        elif isinstance(each, PlainLinear):
            own = vars(each)
            yield from ((own, name) for name in ("_weight", "_bias") if own[name] is not None)
        parameters: dict[str, Any] = each._parameters  # noqa: SLF001 - registering would refuse views
        yield from ((parameters, name) for name in parameters if parameters[name] is not None)
