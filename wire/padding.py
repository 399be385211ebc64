"""Sizes on the wire: what remains visible of a message is its class.

Binary HTTP pads a message only at its end, so a stream would show the length of each token. A
server-sent event is therefore padded inside, by a comment line that every client skips.
"""

from __future__ import annotations

from wire.errors import Malformed, Unsupported

EVENT_SIZE = 512
"""Bytes of a padded event. A chat chunk of one token takes 200 to 400 in OpenAI's JSON, so almost
every event has this size. What is longer takes a multiple, sent in pieces of this size: it looks
like so many events, not like a long one."""

REQUEST_CLASSES = tuple(1 << exponent for exponent in range(12, 25))
"""Padded sizes of a request, in bytes: 4 KiB (a short chat with a token or eight) doubling up to
16 MiB (a context of millions of tokens). Doubling costs a third more bytes on average and leaves
13 sizes to be told apart."""

RESPONSE_CLASSES = REQUEST_CLASSES
"""Padded sizes of a response that is not streamed, and of the event that carries the receipt."""

_SMALLEST_COMMENT = len(b":\n")


def padded_length(length: int, classes: tuple[int, ...]) -> int:
    """Return the smallest class that holds `length` bytes.

    Raises:
        Unsupported: longer than the largest class.
    """
    for size in classes:
        if length <= size:
            return size
    raise Unsupported("longer than the largest padding class")


PADDING_EVENT = b":".ljust(EVENT_SIZE - 2, b".") + b"\n\n"
"""An event of the same size that says nothing: a comment, which every client skips."""


def pad_event(payload: bytes) -> bytes:
    """Write `payload` as one server-sent event of a multiple of `EVENT_SIZE` bytes.

    Raises:
        Malformed: `payload` has a line end in it; JSON needs none.
    """
    if b"\n" in payload or b"\r" in payload:
        raise Malformed("the payload of an event is one line")
    event = b"data: " + payload + b"\n\n"
    size = -(-(len(event) + _SMALLEST_COMMENT) // EVENT_SIZE) * EVENT_SIZE
    filler = b"." * (size - len(event) - _SMALLEST_COMMENT)
    return b":" + filler + b"\n" + event


def pad_event_to_class(payload: bytes) -> bytes:
    """Write `payload` as one server-sent event whose length is a response class.

    Raises:
        Malformed, Unsupported: as `pad_event` and `padded_length` do.
    """
    event = pad_event(payload)
    missing = padded_length(len(event), RESPONSE_CLASSES) - len(event)
    return b":" + b"." * (missing - 2) + b"\n" + event if missing else event


def event_pieces(payload: bytes) -> list[bytes]:
    """Write `payload` as one server-sent event, in pieces of `EVENT_SIZE` bytes each.

    Raises:
        Malformed: as `pad_event` does.
    """
    event = pad_event(payload)
    return [event[at : at + EVENT_SIZE] for at in range(0, len(event), EVENT_SIZE)]
