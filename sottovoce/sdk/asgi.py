"""One request at an ASGI application in this process, its answer piece by piece, no socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message

from client.connection import EXTENSION

Headers = Sequence[tuple[bytes, bytes]]

AHEAD = 64
"""Pieces that an answer may be ahead of its reader: a stalled reader must not fill the memory."""


_HERE = [(b"host", b"localhost")]
"""Whatever a caller's base URL is, it asks inside its own process."""


@dataclass(frozen=True)
class Question:
    """What is asked; of the target only the path and the query count."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes

    def scope(self, pieces: Pieces) -> dict[str, object]:
        """Return the ASGI scope of this question, which `pieces` takes the answer of."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "root_path": "",
            "headers": _HERE
            + [(name.lower(), value) for name, value in self.headers if name.lower() != b"host"],
            "client": None,
            "server": None,
            "extensions": {EXTENSION: pieces},
        }


class BrokenOff(Exception):
    """The answer ended before its end."""


class Pieces:
    """The content of an answer, between the application that writes it and the one who reads.

    Stands where `client.connection.Streaming` stands in a server: the same three members.
    """

    def __init__(self) -> None:
        self._ready: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._read = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Take in a piece."""
        if data:
            self._ready.put_nowait(data)

    @property
    def full(self) -> bool:
        """Whether the reader is too slow: then `room` should be waited for."""
        return self._ready.qsize() >= AHEAD

    async def room(self) -> None:
        """Wait until the reader has read."""
        while self.full:
            self._read.clear()
            await self._read.wait()

    def end(self) -> None:
        """Say that there is no more."""
        self._ready.put_nowait(None)

    async def next(self) -> bytes | None:
        """Return the next piece; None at the end."""
        piece = await self._ready.get()
        self._read.set()
        return piece


class Reply:
    """An answer under way. Read `next` until None, then or before `close`."""

    def __init__(self, app: ASGIApp, question: Question) -> None:
        """Begin to ask; on the loop that the application runs on."""
        self.status = 0
        self.headers: Headers = ()
        self._pieces = Pieces()
        self._begun = asyncio.Event()
        self._left = asyncio.Event()
        self._body: bytes | None = question.body
        self._task = asyncio.create_task(self._run(app, question))

    @classmethod
    async def begin(cls, app: ASGIApp, question: Question) -> Reply:
        """Ask, and return the answer once its status and headers are there.

        Raises:
            BrokenOff: the application failed before it answered.
        """
        reply = cls(app, question)
        try:
            await reply._begun.wait()
        except asyncio.CancelledError:
            await reply.close()
            raise
        if not reply.status:
            raise BrokenOff("there was no answer")
        return reply

    async def next(self) -> bytes | None:
        """Return the next piece of the content; None at its end.

        Raises:
            BrokenOff: the application failed.
        """
        piece = await self._pieces.next()
        if piece is None and self._task.done() and self._task.exception() is not None:
            raise BrokenOff("the answer broke off") from None
        return piece

    async def close(self) -> None:
        """Hang up: what still runs for this answer is stopped."""
        self._left.set()
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _run(self, app: ASGIApp, question: Question) -> None:
        try:
            await app(question.scope(self._pieces), self._receive, self._send)
        finally:
            # The reader sees the end only when the task's outcome is known.
            asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self._begun.set()
        self._pieces.end()

    async def _receive(self) -> Message:
        if self._body is None:
            await self._left.wait()
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
            self._begun.set()
        else:
            self._pieces.write(message.get("body", b""))
