"""A stream of events to the caller: written in the moment they are there, ended when it goes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from client import openai_errors, sse
from client.answer import Answer
from client.connection import EXTENSION, Streaming
from client.errors import ClientError

_HEADERS = (
    (b"cache-control", b"no-cache"),
    (b"content-type", b"text/event-stream; charset=utf-8"),
)


_TYPE = re.compile(rb'\{"type":"([a-z_.]+)"')


class EventStream(Response):
    """An answer whose first event is there, so that an early failure has had a status."""

    def __init__(
        self, first: bytes, answer: Answer, encode: Callable[[bytes], bytes] = sse.encode
    ) -> None:
        super().__init__()
        self._first = first
        self._answer = answer
        self._encode = encode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, until the last or until the caller hangs up."""
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
        writing = asyncio.create_task(self._write(scope["extensions"][EXTENSION]))
        watching = asyncio.create_task(gone(receive))
        try:
            await asyncio.wait((writing, watching), return_when=asyncio.FIRST_COMPLETED)
        finally:
            writing.cancel()
            watching.cancel()
            await asyncio.wait((writing, watching))
            await self._answer.close()
        if not writing.cancelled():
            writing.result()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, streaming: Streaming) -> None:
        """Write SSE events; a failure after the first byte is an error event and no `[DONE]`."""
        failed = self._first.startswith(b'{"error"')
        streaming.write(self._encode(self._first))
        try:
            async for payload in self._answer.payloads:
                failed = failed or payload.startswith(b'{"error"')
                streaming.write(self._encode(payload))
                if streaming.full:
                    await streaming.room()
        except ClientError as error:
            if not failed:
                streaming.write(self._encode(openai_errors.body(error)))


def typed_event(payload: bytes) -> bytes:
    """Write an event of a response, with its type as its name, as OpenAI does."""
    named = _TYPE.match(payload)
    return b"event: " + (named[1] if named else b"error") + b"\n" + sse.encode(payload)


async def gone(receive: Receive) -> None:
    """Return once the caller has hung up; its request must have been read to the end."""
    while (await receive())["type"] != "http.disconnect":
        pass
