"""How an answer leaves a capsule: as binary HTTP, padded, sealed, over the front.

A chunked request has a chunked response. The chunks of a stream all have one size, but for the one
with the receipt, whose size is a class; an event that does not fit into one takes several.
Everything else is padded to a class as a whole before it is cut into chunks, so that the chunks
tell only the class. A request that was not chunked gets one sealed message, streamed or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from server.connections import FrontConnection
from wire import bhttp, ohttp
from wire.hpke import RecipientContext
from wire.padding import (
    RESPONSE_CLASSES,
    event_pieces,
    pad_event_to_class,
    padded_length,
)

HeaderFields = bhttp.Fields

END_SIZE = 4096
"""Bytes of the end of every stream: room for the trailer with eight signatures (2.8 kB), so that
its size does not tell how many tokens the request carried."""


class Responder(Protocol):
    """Answers one opened request, once: `whole`, or `begin`, `event`..., and `end` or `cut`.

    Every method raises ClientGone when the client has gone. An answer that was begun and is not
    ended can never look complete.
    """

    @property
    def begun(self) -> bool:
        """Whether anything of an answer has left the capsule."""

    def whole(self, response: bhttp.Response) -> None:
        """Send a complete answer, padded to its class."""

    def begin(self, status: int, headers: HeaderFields) -> None:
        """Begin a stream of events."""

    def event(self, payload: bytes, *, classed: bool = False) -> None:
        """Send one event, in chunks of the event size; if `classed`, as one chunk of a class."""

    def end(self, trailers: HeaderFields = ()) -> None:
        """Complete the stream, padded to `END_SIZE`."""

    def cut(self) -> None:
        """Send what is held back, and no end: the stream has failed."""


def padded_pieces(payload: bytes, *, classed: bool) -> Iterable[bytes]:
    """Return an event as what its chunks hold: pieces of the event size, or one of a class."""
    return [pad_event_to_class(payload)] if classed else event_pieces(payload)


def responder(
    front: FrontConnection,
    context: RecipientContext,
    enc: bytes,
    response_nonce: bytes,
    *,
    chunked: bool,
) -> ChunkedResponder | PlainResponder:
    """Return the responder for a request's framing. `response_nonce` is random, for one use."""
    if chunked:
        return ChunkedResponder(front, ohttp.ChunkedResponseSealer(context, enc, response_nonce))
    return PlainResponder(front, ohttp.ResponseSealer(context, enc, response_nonce))


class ChunkedResponder:
    """Answers in `message/ohttp-chunked-res`, of indeterminate length inside."""

    def __init__(self, front: FrontConnection, sealer: ohttp.ChunkedResponseSealer) -> None:
        self._front = front
        self._sealer = sealer
        self._encoder = bhttp.ResponseEncoder()
        self.begun = False

    def whole(self, response: bhttp.Response) -> None:
        """Send a complete answer: every chunk is full but the last."""
        message = self._encoder.head(response.status, response.headers)
        message += self._encoder.content(response.content)
        message += self._encoder.end(response.trailers)
        message = message.ljust(padded_length(len(message), RESPONSE_CLASSES), b"\0")
        split = (len(message) - 1) // ohttp.MAX_CHUNK * ohttp.MAX_CHUNK
        sealed = self._sealer.chunk(message[:split]) + self._sealer.final(message[split:])
        self._start(sealed)
        self._front.end()

    def begin(self, status: int, headers: HeaderFields) -> None:
        """Send status and header section."""
        self._start(self._sealer.chunk(self._encoder.head(status, headers)))

    def event(self, payload: bytes, *, classed: bool = False) -> None:
        """Send one event."""
        for piece in padded_pieces(payload, classed=classed):
            self.piece(piece)

    def piece(self, piece: bytes) -> None:
        """Send a padded piece of an event as one chunk."""
        self._front.chunk(self._sealer.chunk(self._encoder.content(piece)))

    def end(self, trailers: HeaderFields = ()) -> None:
        """Send the final chunk."""
        message = self._encoder.end(trailers).ljust(END_SIZE, b"\0")
        self._front.chunk(self._sealer.final(message))
        self._front.end()

    def cut(self) -> None:
        """Nothing is held back."""

    def _start(self, sealed: bytes) -> None:
        self.begun = True
        self._front.start(chunked=True)
        self._front.chunk(self._sealer.start() + sealed)


class PlainResponder:
    """Answers in one `message/ohttp-res`. What would be a stream is held back until its end."""

    def __init__(self, front: FrontConnection, sealer: ohttp.ResponseSealer) -> None:
        self._front = front
        self._sealer = sealer
        self._head: tuple[int, HeaderFields] = (200, ())
        self._events: list[bytes] = []
        self.begun = False

    def whole(self, response: bhttp.Response) -> None:
        """Send a complete answer."""
        length = len(bhttp.encode_response(response))
        padded = padded_length(length, RESPONSE_CLASSES)
        sealed = self._sealer.seal(bhttp.encode_response(response, padded_length=padded))
        self.begun = True
        self._front.start(chunked=False)
        self._front.chunk(sealed)
        self._front.end()

    def begin(self, status: int, headers: HeaderFields) -> None:
        """Keep status and header section."""
        self._head = (status, headers)

    def event(self, payload: bytes, *, classed: bool = False) -> None:
        """Keep one event."""
        self._events += padded_pieces(payload, classed=classed)

    def end(self, trailers: HeaderFields = ()) -> None:
        """Send what was kept."""
        status, headers = self._head
        self.whole(bhttp.Response(status, headers, b"".join(self._events), trailers))

    def cut(self) -> None:
        """Forget what was kept: a message cannot be sent in part."""
        self._events.clear()
