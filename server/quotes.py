"""Fresh quotes: a client's nonce on its way to the platform, and the bundle that comes back.

    front    -> launcher   key id u8, nonce 32
    launcher -> front      length u32, bundle     length 0: the platform did not quote

A stream socket of their own, one order at a time. The key id is the one in the ciphertext, and says
which of this worker's key documents is quoted: whatever is asked, the platform vouches for nothing
but this worker, and the nonce stands apart from it in the report data.

Hardware quotes slowly (up to a second, and one at a time), and the launcher does nothing else
meanwhile. So few may wait, the rest is told busy, and between two quotes there is a pause.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from server.errors import PeerGone, ProtocolError
from server.messages import MAX_BUNDLE, Quoted, Quoting

_ORDER = struct.Struct(">B32s")
_LENGTH = struct.Struct(">I")


class Quoter(Protocol):
    """Who has the platform quote; `Quotes` is one."""

    async def quote(self, key_id: int, nonce: bytes) -> Quoted:
        """Have the generation with this key id quoted over a nonce."""


class Quotes:
    """The front's end.

    Args:
        launcher: the socket; not read or written before the first order.
        most: orders that may be under way or waiting.
        pause_s: between two of them.
    """

    def __init__(self, launcher: socket.socket, *, most: int, pause_s: float) -> None:
        self._socket = launcher
        self._most = most
        self._pause_s = pause_s
        self._orders = 0
        self._turn = asyncio.Lock()
        self._not_before = 0.0
        self._under_way: asyncio.Future[Quoted] | None = None

    async def quote(self, key_id: int, nonce: bytes) -> Quoted:
        """Have a nonce quoted, in turn; busy if too many wait."""
        if self._orders >= self._most:
            return Quoted(Quoting.BUSY)
        self._orders += 1
        try:
            async with self._turn:
                return await self._in_turn(key_id, nonce)
        finally:
            self._orders -= 1

    async def _in_turn(self, key_id: int, nonce: bytes) -> Quoted:
        if self._under_way is not None:
            await asyncio.wait({self._under_way})
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, self._not_before - now))
        # A client that goes does not stop it: the next would be given this one's answer.
        self._under_way = asyncio.ensure_future(self._order(key_id, nonce))
        return await asyncio.shield(self._under_way)

    async def _order(self, key_id: int, nonce: bytes) -> Quoted:
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        try:
            await loop.sock_sendall(self._socket, _ORDER.pack(key_id, nonce))
            (length,) = _LENGTH.unpack(await self._read(_LENGTH.size))
            if length > MAX_BUNDLE:
                raise ProtocolError("a bundle longer than bundles may be")
            bundle = await self._read(length)
        except (PeerGone, OSError):
            return Quoted(Quoting.UNAVAILABLE)
        finally:
            self._not_before = loop.time() + self._pause_s
        return Quoted(Quoting.OK, bundle) if bundle else Quoted(Quoting.UNAVAILABLE)

    async def _read(self, length: int) -> bytes:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            count = await asyncio.get_running_loop().sock_recv_into(self._socket, view)
            if not count:
                raise PeerGone
            view = view[count:]
        return bytes(data)


def answer_order(front: socket.socket, quote: Callable[[int, bytes], bytes]) -> None:
    """Answer one order, if there is one: the launcher's end.

    Args:
        front: the socket.
        quote: given key id and nonce, returns the bundle; nothing if there is none.

    Raises:
        PeerGone: the front has gone.
    """
    if not select.select([front], [], [], 0)[0]:
        return
    order = front.recv(_ORDER.size, socket.MSG_WAITALL)
    if len(order) != _ORDER.size:
        raise PeerGone
    bundle = quote(*_ORDER.unpack(order))
    if len(bundle) > MAX_BUNDLE:
        bundle = b""
    try:
        front.sendall(_LENGTH.pack(len(bundle)) + bundle)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise PeerGone from error
