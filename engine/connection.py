"""The capsule's side of its slot socket. Free of torch.

The socket is AF_UNIX, SOCK_SEQPACKET. A packet is one byte, a slot's number: "look at slot i".
The first packet that names a slot carries its memfd (SCM_RIGHTS). Nothing else crosses; the end
of the socket is the end of all its slots.
"""

from __future__ import annotations

import select
import socket

from engine.errors import EngineError, EngineGone
from engine.slot import Slot, SlotGeometry

MAX_SLOTS = 128
"""Slots of one capsule: OpenAI's largest `n`."""


class EngineConnection:
    """One capsule's connection to the engine, and the slots it opened."""

    def __init__(self, sock: socket.socket, geometry: SlotGeometry) -> None:
        self._socket = sock
        self._socket.setblocking(False)
        self.geometry = geometry
        self.slots: list[Slot] = []

    def open_slots(self, count: int) -> list[Slot]:
        """Make `count` further slots and hand them to the engine; numbers go on counting.

        Raises:
            EngineGone: the engine closed the socket.
            EngineError: more than MAX_SLOTS altogether.
        """
        if len(self.slots) + count > MAX_SLOTS:
            raise EngineError(f"a capsule has at most {MAX_SLOTS} slots")
        opened = [Slot.create(self.geometry) for _ in range(count)]
        for slot in opened:
            self.slots.append(slot)
            self._send(len(self.slots) - 1, [slot.fd])
        return opened

    def wake(self, index: int) -> None:
        """Tell the engine to look at slot `index` (after submit, set_mask, done or cancel).

        Raises:
            EngineGone: the engine closed the socket.
        """
        self._send(index, [])

    def wait(self, timeout: float | None = None) -> set[int]:
        """Block until some slots may have changed; return their numbers, none on timeout.

        Several changes of a slot may be told once: look at the slot, do not count the wake-ups.

        Raises:
            EngineGone: the engine closed the socket.
        """
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.poll(None if timeout is None else timeout * 1000)
        return self.changes()

    def changes(self) -> set[int]:
        """Return the numbers of the slots that may have changed; does not wait.

        Raises:
            EngineGone: the engine closed the socket.
        """
        changed: set[int] = set()
        while (packet := self._receive()) is not None:
            changed.add(packet[0])
        return changed

    def close(self) -> None:
        """End every slot: the engine aborts what runs and erases what is left."""
        self._socket.close()
        for slot in self.slots:
            slot.close()
        self.slots.clear()

    def _receive(self) -> bytes | None:
        try:
            packet = self._socket.recv(1)
        except BlockingIOError:
            return None
        except ConnectionError:
            raise EngineGone("the engine closed the slot socket") from None
        if not packet:
            raise EngineGone("the engine closed the slot socket")
        return packet

    def _send(self, index: int, fds: list[int]) -> None:
        while True:
            try:
                socket.send_fds(self._socket, [bytes((index,))], fds)
            except BlockingIOError:
                select.select([], [self._socket], [])
            except (BrokenPipeError, ConnectionError):
                raise EngineGone("the engine closed the slot socket") from None
            else:
                return
