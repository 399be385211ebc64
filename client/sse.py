"""Server-sent events, the little of them that completions use (WHATWG HTML, section 9.2).

stream  = *event
event   = *( comment | "data: " payload ) blank line
"""

from __future__ import annotations

DONE = b"[DONE]"


def encode(payload: bytes) -> bytes:
    """Write one event whose data is `payload` (one line)."""
    return b"data: " + payload + b"\n\n"


class EventParser:
    """Splits a byte stream into the payloads of its events; comments (padding) are left out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payload of each event that `data` completes."""
        if not self._buffer and data.endswith(b"\n\n") and data.find(b"\n\n") == len(data) - 2:
            return _payload(data[:-2])  # one whole event, as nearly all come
        # Only new bytes are searched, so a long event in small pieces takes no longer than once.
        searched = max(0, len(self._buffer) - 1)
        self._buffer += data
        payloads, start = [], 0
        while (end := self._buffer.find(b"\n\n", searched)) >= 0:
            payloads += _payload(bytes(self._buffer[start:end]))
            start = searched = end + 2
        del self._buffer[:start]
        return payloads

    @property
    def empty(self) -> bool:
        """Whether the stream so far ended with a whole event."""
        return not self._buffer.strip(b"\n")


def _payload(event: bytes) -> list[bytes]:
    lines = event.split(b"\n")
    if len(lines) == 2 and lines[0].startswith(b":") and lines[1].startswith(b"data: "):
        return [lines[1][6:]]
    lines = [line for line in lines if line.startswith(b"data:")]
    return [b"\n".join(line[5:].removeprefix(b" ") for line in lines)] if lines else []
