"""Many streams at once, read by as little code as can read them.

The reader looks for the first event and for `[DONE]`, and counts events only when the stream has
ended: it runs on the processors that are being measured.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

TIMEOUT_S = 120.0
_EVENT = b"data: "
_DONE = b"data: [DONE]"


class LoadFailed(Exception):
    """A stream did not end as a whole answer does."""


@dataclass(frozen=True)
class Stream:
    """One stream that was read to its end. Times in seconds, on the clock of `time.monotonic`."""

    sent: float
    first: float
    ended: float
    events: int

    @property
    def ttft(self) -> float:
        """Seconds from the request to the first event."""
        return self.first - self.sent


class _Reader(asyncio.Protocol):
    def __init__(self, request: bytes, end: bytes) -> None:
        self._request = request
        self._end = end
        self._first = 0.0
        self._sent = 0.0
        self._received = bytearray()
        self._transport: asyncio.BaseTransport | None = None
        self.ended: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what create_connection makes
        self._transport = transport
        self._sent = time.monotonic()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if not self._first and _EVENT in received:
            self._first = time.monotonic()
        if received.find(self._end, max(0, len(received) - len(data) - len(self._end))) >= 0:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(LoadFailed(f"a stream was cut: {self._told()}, {exc}"))

    def _told(self) -> str:
        """Return the status line and the end of what came: to a prompt of the benchmark's own."""
        line, _, rest = bytes(self._received).partition(b"\r\n")
        return (line + b" ... " + rest[-200:]).decode("utf-8", "replace")

    def _finish(self) -> None:
        now = time.monotonic()
        ok = self._received.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 "))
        if not self.ended.done():
            if ok:
                events = self._received.count(_EVENT) - 1  # [DONE] is none
                self.ended.set_result(Stream(self._sent, self._first or now, now, events))
            else:
                self.ended.set_exception(LoadFailed(f"an answer that is none: {self._told()}"))
        if self._transport is not None:
            self._transport.close()


def http_request(port: int, path: str, body: bytes, media_type: str = "application/json") -> bytes:
    """Write a whole HTTP/1.1 request to loopback."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: {media_type}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def completion(model: str, prompt: str, tokens: int) -> bytes:
    """Write the body of a streamed chat completion of exactly `tokens` tokens."""
    return json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()


async def read_stream(port: int, request: bytes, *, end: bytes = _DONE) -> Stream:
    """Send one request on a connection of its own and read the answer up to `end`.

    Raises:
        LoadFailed: not answered 200, or cut.
        OSError, TimeoutError: nobody answers.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(TIMEOUT_S):
        _, reader = await loop.create_connection(lambda: _Reader(request, end), "127.0.0.1", port)
        return await reader.ended


async def read_streams(port: int, requests: Sequence[bytes], *, end: bytes = _DONE) -> list[Stream]:
    """Send requests at the same time; raises as `read_stream` does."""
    return await asyncio.gather(*(read_stream(port, each, end=end) for each in requests))
