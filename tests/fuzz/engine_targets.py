"""The decoder of the engine's transfers."""

from __future__ import annotations

from engine.transfer.errors import FrameRefused
from engine.transfer.frame import NOP, Frame
from tests.fuzz.target import Target


def frames() -> list[bytes]:
    sealed = Frame(7, 0, 2**63, 3, 5, memoryview(b"bytes" + bytes(16)))
    return [sealed.encode(), Frame(8, NOP, 0, 0, 0, memoryview(bytes(16))).encode()]


TARGETS = (
    Target(
        "transfer-frame",
        Frame.decode,
        (FrameRefused,),
        frames,
        ("engine.transfer.frame:Frame.decode",),
        encode=Frame.encode,
    ),
)
