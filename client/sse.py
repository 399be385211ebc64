"""Server-sent events, the little of them that completions use (WHATWG HTML, section 9.2).

stream  = *event
event   = *( comment | "data: " payload ) blank line
"""

from __future__ import annotations

from collections.abc import Iterator

DONE = b"[DONE]"


def encode(payload: bytes) -> bytes:
    """Write one event whose data is `payload` (one line)."""
    return b"data: " + payload + b"\n\n"


class EventParser:
    """Splits a byte stream into the payloads of its events; comments (padding) are left out."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the payload of each event that `data` completes."""
        *events, self._buffer = (self._buffer + data).split(b"\n\n")
        for event in events:
            lines = [line for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                yield b"\n".join(line[5:].removeprefix(b" ") for line in lines)

    @property
    def empty(self) -> bool:
        """Whether the stream so far ended with a whole event."""
        return not self._buffer.strip(b"\n")
