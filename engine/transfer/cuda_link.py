"""The way to a GPU: pinned memory, a stream of its own, opening by our kernels.

Frames are sealed into pinned buffers (`pinned`), so that they are copied from where they are while
the GPU computes; a buffer is free again when its copy's event has passed. What arrives is opened on
the copy's stream, from the device's memory into the device's memory. The CPU side drives the
kernels: it knows which frame has to be the next, and the device only says whether the tag held.

The keys are those of a `Session` with ChaCha20-Poly1305. They reach the device by a copy as well:
only a GPU in confidential mode, whose driver encrypts that copy, keeps them from the link.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from engine.aead import TAG, Aead, Buffer, TagMismatch, zeroise
from engine.transfer.errors import FrameRefused, SessionFaulted
from engine.transfer.frame import NOP, TO_DEVICE, Frame
from engine.transfer.link import Done
from engine.transfer.session import LIMIT, Session

Opening = Callable[..., Tensor]
"""As `cuda_open.open_batch`."""


def pinned(size: int) -> memoryview:
    """Return page-locked memory, for `Buffers`."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy().data


@dataclass(frozen=True)
class Arrived:
    """A frame on the device: its header here, its body there."""

    frame: Frame
    body: Tensor


class CudaLink:
    """Copies batches to a GPU; see `engine.transfer.link.Link`."""

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:  # noqa: ANN401 - a module
        """Take a device, and torch's interface to it (tests have another)."""
        self._device, self._cuda = device, cuda
        self.stream = cuda.Stream(device)
        self._copies: deque[tuple[Any, Done]] = deque()
        self._arrived: deque[Arrived] = deque()

    def send(self, frames: Sequence[Frame], done: Done) -> None:
        """See `Link`. Returns before the copies are done."""
        with self._cuda.stream(self.stream):
            for frame in frames:
                body = torch.frombuffer(frame.body, dtype=torch.uint8)
                there = body.to(self._device, non_blocking=True)
                self._arrived.append(Arrived(replace(frame, body=memoryview(b"")), there))
            event = self._cuda.Event()
            event.record(self.stream)
        self._copies.append((event, done))
        self.reclaim()

    def reclaim(self) -> None:
        """Give buffers back whose copies are done; waits for none."""
        while self._copies and self._copies[0][0].query():
            self._copies.popleft()[1]()

    def take(self) -> list[Arrived]:
        """Return what was sent, oldest first, and forget it; use it on `stream`."""
        taken = list(self._arrived)
        self._arrived.clear()
        return taken


class DeviceKey:
    """ChaCha20-Poly1305 under a key in the device's memory; it opens and does not seal."""

    def __init__(self, key: Buffer, device: torch.device, opening: Opening) -> None:
        """Copy the key to the device."""
        self._key = torch.frombuffer(bytearray(memoryview(key)), dtype=torch.uint8).to(device)
        zeroise(key)
        self._opening = opening

    def open_on_device(self, nonce: bytes, header: bytes, body: Tensor, out: Tensor) -> None:
        """Open a body into `out`; waits for the device.

        Raises:
            TagMismatch: it is not authentic; `out` is zeros.
        """
        whole = self._opening(self._key, [nonce], [header], body[None], out.view(1, -1))
        if not int(whole[0]):
            raise TagMismatch("not authentic")

    def close(self) -> None:
        """Overwrite the key."""
        self._key.zero_()


class DeviceReceiver:
    """Opens what arrived on the device, in strict order, into the device's blocks.

    A NOP has nothing to open: its number is passed over, and were it not one, the next frame
    would not open.
    """

    def __init__(
        self,
        session: Session,
        place: Callable[[int], Tensor],
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """Begin at sequence number 0.

        Args:
            session: made by `device_session`.
            place: a block's memory on the device, contiguous bytes.
            context: makes the copies' stream the current one.
        """
        self._session, self._place, self._context = session, place, context
        self._versions: dict[int, int] = {}
        self._next = 0
        self._faulted = False

    def receive(self, arrived: Arrived) -> int:
        """Open a frame; return its block's id, of a NOP 0.

        Raises:
            FrameRefused: forged, replayed, out of order, or older than what is there.
        """
        frame = arrived.frame
        if self._faulted:
            raise SessionFaulted("a frame was refused before")
        self._faulted = True  # until it has proven itself
        if frame.counter != self._session.counter(self._next):
            raise FrameRefused("not the next frame")
        if frame.version < self._versions.get(frame.block, 0):
            raise FrameRefused("an older version than there is")
        if frame.flags != NOP:
            self._open(frame, arrived.body)
            self._versions[frame.block] = frame.version
        self._next += 1
        self._session.passed(self._next)
        self._faulted = False
        return frame.block

    def _open(self, frame: Frame, body: Tensor) -> None:
        out = self._place(frame.block)
        if out.numel() != frame.length or body.numel() != frame.length + TAG:
            raise FrameRefused("the block does not take this frame")
        key = cast("DeviceKey", self._session.key(self._next))
        try:
            with self._context():
                key.open_on_device(self._session.nonce(self._next), frame.header, body, out)
        except TagMismatch:
            raise FrameRefused("not authentic") from None


def device_session(
    secret: Buffer, device: torch.device, opening: Opening, *, limit: int = LIMIT
) -> Session:
    """Return the device's end of a direction whose frames are ChaCha20-Poly1305's."""

    def make(key: Buffer) -> Aead:
        return cast("Aead", DeviceKey(key, device, opening))

    return Session(secret, TO_DEVICE, limit=limit, aead=make)
