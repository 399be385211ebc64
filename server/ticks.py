"""A stream whose events leave at fixed times, so that their timing tells nothing of the tokens.

When a token took long to compute, or came together with others, shows in when its event leaves.
With a tick, one chunk of the event size leaves at each, whether there is an event or not: what is
early waits, and a tick without an event carries a comment, which every client skips.

What still shows: when the stream begins, when it ends, and so how many ticks it took.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from server.responses import ChunkedResponder, HeaderFields, padded_pieces
from wire import bhttp
from wire.padding import PADDING_EVENT


class TickedResponder:
    """A chunked answer; if it is a stream, at most one chunk a tick.

    Someone must call `on_wait` whenever the capsule waits: it sends what is due.

    Args:
        responder: what sends.
        tick_s: seconds from one tick to the next.
        clock: monotonic seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        responder: ChunkedResponder,
        tick_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._responder = responder
        self._tick_s = tick_s
        self._clock = clock
        self._sleep = sleep
        self._waiting: deque[bytes] = deque()
        self._next: float | None = None

    @property
    def begun(self) -> bool:
        """Whether anything of an answer has left the capsule."""
        return self._responder.begun

    def whole(self, response: bhttp.Response) -> None:
        """Send a complete answer, at once: it has no rhythm."""
        self._responder.whole(response)

    def begin(self, status: int, headers: HeaderFields) -> None:
        """Begin a stream of events; the first tick is now."""
        self._responder.begin(status, headers)
        self._next = self._clock()

    def event(self, payload: bytes, *, classed: bool = False) -> None:
        """Have one event sent at the next free tick, or ticks if it is long."""
        self._waiting.extend(padded_pieces(payload, classed=classed))
        self.on_wait()

    def end(self, trailers: HeaderFields = ()) -> None:
        """Send what is waiting, tick by tick, then complete the stream."""
        self.cut()
        self._responder.end(trailers)

    def cut(self) -> None:
        """Send what is waiting, tick by tick, and no end."""
        while self._waiting:
            self._sleep(self.on_wait() or 0.0)

    def on_wait(self) -> float | None:
        """Send what is due; return the seconds until the next tick, None if there is none."""
        if self._next is None:
            return None
        now = self._clock()
        if now >= self._next:
            self._responder.piece(self._waiting.popleft() if self._waiting else PADDING_EVENT)
            missed = (now - self._next) // self._tick_s
            # The grid stays; what was missed is not made up.
            self._next += (missed + 1) * self._tick_s
        return max(0.0, self._next - self._clock())
