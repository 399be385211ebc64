"""The front's question to the keeper: is this request authentic? Asked before a capsule is taken.

Whatever is not authentic would not open, so it is answered as if a capsule had tried. Questions
wait in one bounded queue, first come first served; a flood makes a good request wait its turn, and
takes no capsule from it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from server.errors import PeerGone, Rejected
from server.keeper_messages import MAX_CHECKED, CheckRequest, Packet
from server.messages import Request
from server.sockets import receive_packet, send_packet
from wire import ohttp
from wire.errors import Unsupported, WireError
from wire.hpke import TAG_LENGTH

MAX_WAITING = 1024
"""Questions that may wait for the keeper: a fraction of a second. Beyond it, a 503 in clear."""

WINDOW = 64
"""Questions at the keeper at once; their answers fit into the socket's buffer."""

MAX_UNCHECKED = 8
"""Requests that may wait in the lane of those that cannot be checked."""

_STATUS = {Packet.AUTHENTIC: None, Packet.UNKNOWN_KEY: 400, Packet.BAD_ENC: 422}


class Checker(Protocol):
    """Who says whether a request will open."""

    async def check(self, request: Request) -> bool:
        """Return True; or False if only a capsule can tell, the request being too long to check.

        Raises:
            Rejected: it will not open.
        """


class Lane:
    """One after another: requests that only a capsule can check, so that they crowd out nobody."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(1)
        self._waiting = 0

    async def enter(self) -> None:
        """Wait for the requests before.

        Raises:
            Rejected: 503, too many wait.
        """
        if self._waiting >= MAX_UNCHECKED:
            raise Rejected(503)
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    def leave(self) -> None:
        """Let the next one in."""
        self._free.release()


class KeeperChecks:
    """The front's side of its socket to the keeper.

    Args:
        on_end: called when the keeper has gone; the worker cannot serve without it.
    """

    def __init__(self, sock: socket.socket, on_end: Callable[[], None]) -> None:
        self._socket = sock
        self._on_end = on_end
        self._unsent: deque[bytes] = deque()
        self._asked: deque[asyncio.Future[bytes]] = deque()
        self._ended = False

    def start(self) -> None:
        """Begin to receive answers, on the running event loop."""
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._on_answers)

    async def check(self, request: Request) -> bool:
        """Have the request's first ciphertext checked; see `Checker`.

        Raises:
            Rejected: it will not open: 400 or 422; 503 if too many wait, or the keeper has gone.
        """
        packet = question(request)
        if packet is None:
            return False
        if len(self._asked) >= MAX_WAITING or self._ended:
            raise Rejected(503)
        answered = asyncio.get_running_loop().create_future()
        self._asked.append(answered)
        self._unsent.append(packet)
        self._send()
        answer = await answered
        status = _STATUS[Packet(answer[0])]
        if status is not None:
            raise Rejected(status)
        return True

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._unsent and len(self._asked) - len(self._unsent) < WINDOW:
                send_packet(self._socket, self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:  # long questions; it can be written before an answer comes
            loop.add_writer(self._socket.fileno(), self._send)
            return
        except PeerGone:
            self._end()
        loop.remove_writer(self._socket.fileno())

    def _on_answers(self) -> None:
        try:
            while True:
                answer, _ = receive_packet(self._socket)
                answered = self._asked.popleft()
                if not answered.done():  # its client may have gone meanwhile
                    answered.set_result(answer)
        except BlockingIOError:
            self._send()
        except PeerGone:
            self._end()

    def _end(self) -> None:
        self._ended = True
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._unsent.clear()
        while self._asked:
            answered = self._asked.popleft()
            if not answered.done():
                answered.set_exception(Rejected(503))
        self._on_end()


def question(request: Request) -> bytes | None:
    """Return the packet that asks for a request; None if its first ciphertext is too long for one.

    Raises:
        Rejected: no key is needed to see that it will not open: 400 for its suite, else 422.
    """
    try:
        header, enc, rest = ohttp.split(request.encapsulated_request)
        aad, ciphertext = ohttp.first_ciphertext(rest, chunked=request.chunked)
    except Unsupported:
        raise Rejected(400) from None
    except WireError:
        raise Rejected(422) from None
    if len(ciphertext) < TAG_LENGTH:
        raise Rejected(422)
    if len(ciphertext) > MAX_CHECKED:
        return None
    return CheckRequest(request.chunked, bool(aad), header.encode(), enc, ciphertext).encode()
