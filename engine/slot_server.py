"""Sockets in, steps between, nothing else. Free of torch.

The launcher starts an engine with one control socket (AF_UNIX, SOCK_SEQPACKET). Each packet on it
carries the engine's end of one capsule's slot socket; its end is the end of the process. What
crosses slot sockets is said in `engine.connection`. The process sleeps when no sequence can run,
and polls its sockets between steps when one can.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.connection import MAX_SLOTS
from engine.errors import InvalidRequest
from engine.slot import Slot, SlotGeometry


class Computing(Protocol):
    """What is behind the slots; `engine.core.Engine` is one."""

    @property
    def busy(self) -> bool:
        """Whether `step` may find something to do."""
        ...

    def register(self, key: Hashable, slot: Slot) -> None:
        """Take a slot under a key of the caller's; the slot is closed by `drop`."""
        ...

    def look(self, key: Hashable, group_scope: Hashable) -> None:
        """Do what a slot's command asks for. Groups of different scopes never meet."""
        ...

    def drop(self, key: Hashable) -> None:
        """End a slot whose capsule is gone, and let go of it."""
        ...

    def step(self) -> bool:
        """Run one step; False if nothing could run until some capsule acts."""
        ...


@dataclass(eq=False)
class _Capsule:
    """The engine's end of one slot socket."""

    socket: socket.socket
    slots: set[int] = field(default_factory=set)
    unsent: set[int] = field(default_factory=set)
    """Slots whose capsule is still to be told."""


Changed = Callable[[Any], None]
"""Called with a slot's key whenever its capsule should look."""


class SlotServer:
    """Moves wake-ups between sockets and what computes."""

    def __init__(
        self,
        control: socket.socket,
        make: Callable[[Changed], tuple[Computing, SlotGeometry]],
    ) -> None:
        """Build what computes, which says by `Changed` which capsule should look."""
        self._engine, self.geometry = make(self._changed)
        self._selector = selectors.EpollSelector()
        self._control = control
        control.setblocking(False)
        self._selector.register(control, selectors.EVENT_READ)
        self._capsules: dict[int, _Capsule] = {}
        self._changes: set[_Capsule] = set()
        self._serving = True

    def serve(self) -> None:
        """Serve until the control socket ends; then every slot is erased."""
        worked = False
        while self.hear(0 if worked else None):
            worked = self._engine.busy and self._engine.step()
            self.tell()
        self.close()

    def fileno(self) -> int:
        """A descriptor that can be read when `hear` has something to do."""
        return self._selector.fileno()

    def hear(self, timeout: float | None = 0) -> bool:
        """Do what the sockets ask for, after waiting for it; False once the control socket ended.

        Args:
            timeout: seconds to wait; None for as long as it takes.
        """
        for key, _ in self._selector.select(timeout):
            self._event(key.fd)
        return self._serving

    def tell(self) -> None:
        """Wake the capsules that should look."""
        while self._changes:
            self._tell(self._changes.pop())

    def close(self) -> None:
        """End every slot; they are erased when what computes has seen to it."""
        for capsule in list(self._capsules.values()):
            self._leave(capsule)
        self._selector.close()

    def _event(self, fd: int) -> None:
        if fd == self._control.fileno():
            self._accept()
            return
        capsule = self._capsules[fd]
        self._hear(capsule)
        if fd in self._capsules:
            self._tell(capsule)

    def _changed(self, key: tuple[_Capsule, int]) -> None:
        capsule, index = key
        capsule.unsent.add(index)
        self._changes.add(capsule)

    def _accept(self) -> None:
        """Take new slot sockets from the control socket, or see it end."""
        while (packet := _receive(self._control)) is not None:
            data, fds = packet
            for fd in fds:
                capsule = _Capsule(socket.socket(fileno=fd))
                capsule.socket.setblocking(False)
                self._capsules[fd] = capsule
                self._selector.register(fd, selectors.EVENT_READ)
            if not data:
                self._serving = False
                return

    def _hear(self, capsule: _Capsule) -> None:
        """Read a capsule's packets: register slots, look at slots, or see it go."""
        while (packet := _receive(capsule.socket)) is not None:
            data, fds = packet
            if not data or not self._packet(capsule, data[0], fds):
                self._leave(capsule)
                return

    def _packet(self, capsule: _Capsule, index: int, fds: list[int]) -> bool:
        """Handle one packet; False if the capsule breaks the protocol."""
        new = index not in capsule.slots
        if index >= MAX_SLOTS or new != bool(fds):
            for fd in fds:
                os.close(fd)
            return False
        if new:
            try:
                slot = Slot.attach(fds[0], self.geometry)
            except InvalidRequest:
                return False
            capsule.slots.add(index)
            self._engine.register((capsule, index), slot)
        self._engine.look((capsule, index), capsule)
        return True

    def _leave(self, capsule: _Capsule) -> None:
        """End all slots of a capsule that is gone, or that broke the protocol."""
        for index in capsule.slots:
            self._engine.drop((capsule, index))
        fd = capsule.socket.fileno()
        self._selector.unregister(fd)
        del self._capsules[fd]
        self._changes.discard(capsule)
        capsule.socket.close()

    def _tell(self, capsule: _Capsule) -> None:
        """Send wake-ups; what finds no room is sent when the capsule has read some."""
        # A capsule that has gone is noticed when its socket is read.
        with contextlib.suppress(BlockingIOError, ConnectionError):
            for index in sorted(capsule.unsent):
                capsule.socket.send(bytes((index,)))
                capsule.unsent.discard(index)
        events = selectors.EVENT_READ
        if capsule.unsent:
            events |= selectors.EVENT_WRITE
        self._selector.modify(capsule.socket.fileno(), events)


def _receive(sock: socket.socket) -> tuple[bytes, list[int]] | None:
    """Return one packet and its descriptors; empty bytes at the end; None if there is none now."""
    try:
        data, fds, _, _ = socket.recv_fds(sock, 1, 1)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b"", []
    return data, fds
