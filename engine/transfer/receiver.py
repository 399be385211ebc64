"""The receiving end of a direction.

Frames are taken in strict order; opening them is left to the opener, and whoever reads the block
waits for it. A frame that is not the next one, or not authentic, poisons the block that it names
and ends the session: until both ends restart, everything else is refused as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from engine.aead import AeadError, Buffer
from engine.transfer.blocks import BlockStore
from engine.transfer.errors import BlockUnusable, FrameRefused, SessionFaulted, TransferError
from engine.transfer.forms import Form
from engine.transfer.frame import NOP, Frame
from engine.transfer.sealer import Sealer


class Receiver:
    """One thread hands frames in; the opener's thread opens them."""

    def __init__(
        self,
        form: Form,
        store: BlockStore,
        opener: Sealer,
        arrived: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Begin at sequence number 0.

        Args:
            form: of the frames.
            store: the blocks; those that will arrive are reserved or already there.
            opener: opens, in order.
            arrived: told of each block whose frame was taken, before it is opened.
        """
        self._form, self._store, self._opener = form, store, opener
        self._arrived = arrived
        self._next = 0
        self._faulted = False
        self._session = 0
        self._lock = threading.Lock()

    @property
    def faulted(self) -> bool:
        """Whether a frame was refused since the last (re)start."""
        return self._faulted

    def receive(self, frame: Frame) -> Future[int]:
        """Take a frame. Returns at once; the result is the block's id, of a NOP 0.

        The future raises:
            FrameRefused: forged, replayed, out of order, or of a block that does not take it.
            SessionFaulted: a frame was refused before.
        """
        if self._faulted:
            return self._refuse(frame, SessionFaulted("a frame was refused before"))
        if frame.counter != self._form.counter(self._next):
            return self._refuse(frame, FrameRefused("not the next frame"))
        number, self._next = self._next, self._next + 1
        if frame.flags == NOP:
            return self._take_nop(number, frame)
        try:
            memory, arrival = self._store.begin(frame.block, frame.version, frame.length)
        except BlockUnusable:
            return self._refuse(frame, FrameRefused("the block does not take this frame"))
        self._arrived(frame.block)
        session = self._session
        self._submit(lambda: self._open(session, number, frame, memory))
        return arrival

    def restart(self, secret: Buffer) -> None:
        """Begin at 0 under another secret. What is being opened is lost, as if refused.

        Raises:
            SecretReused: it is not another.
        """
        self._form.restart(secret)
        with self._lock:
            self._session += 1
            self._next, self._faulted = 0, False

    def close(self) -> None:
        """Take nothing more, erase the key."""
        self._faulted = True
        self._form.close()

    def _take_nop(self, number: int, frame: Frame) -> Future[int]:
        try:
            self._form.open(number, frame, bytearray())
        except (TransferError, AeadError):
            return self._refuse(frame, FrameRefused("not authentic"))
        taken: Future[int] = Future()
        taken.set_result(0)
        return taken

    def _open(self, session: int, number: int, frame: Frame, memory: memoryview) -> None:
        try:
            self._form.open(number, frame, memory)
        except (TransferError, AeadError):
            self._fault(session)
            self._store.poison(frame.block, FrameRefused("not authentic"))
            return
        self._store.arrived(frame.block, frame.version)
        with self._lock:
            if session == self._session:
                self._form.passed(number)

    def _refuse(self, frame: Frame, error: FrameRefused) -> Future[int]:
        self._fault(self._session)
        self._store.poison(frame.block, error)
        refused: Future[int] = Future()
        refused.set_exception(error)
        return refused

    def _fault(self, session: int) -> None:
        with self._lock:
            if session == self._session:
                self._faulted = True

    def _submit(self, task: Callable[[], None]) -> None:
        if not self._opener.submit(task):
            task()
