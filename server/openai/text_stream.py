"""Released token ids in, text that may be shown out.

Two things are held back: the bytes of a character that is not complete yet, and bytes with which a
stop string may begin. Both are held back by whole tokens, so that every piece of text comes with
exactly the tokens it is made of. Only where a stop string ends the text is a token cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ShownToken:
    """A token of a piece of text: its position among the generated ids, its id and its bytes."""

    position: int
    token_id: int
    data: bytes


@dataclass(frozen=True)
class Piece:
    """Text that may be shown, and the tokens that hold it."""

    text: str
    tokens: tuple[ShownToken, ...]


class TextStream:
    """The text of one sequence, as it becomes certain.

    Args:
        text_bytes: what a token adds to the text; nothing for special tokens.
        stops: the stop strings. The text ends before the first of them.
        stops_until: text after which stop strings no longer count (a tool call begins), if any.
    """

    def __init__(
        self,
        text_bytes: Callable[[int], bytes],
        stops: tuple[str, ...] = (),
        stops_until: str | None = None,
    ) -> None:
        self._text_bytes = text_bytes
        self._stops = tuple(stop.encode() for stop in stops)
        self._until = stops_until.encode() if stops_until else None
        self._held: list[ShownToken] = []
        self.fed = 0
        self.stopped = False

    def feed(self, token_id: int) -> Piece | None:
        """Add the next id; returns the text that became certain, if any. Ignored once stopped."""
        if self.stopped:
            return None
        data = self._text_bytes(token_id)
        position, self.fed = self.fed, self.fed + 1
        if not data:
            return None
        token = ShownToken(position, token_id, data)
        if not self._held and not self._stops and not unfinished(data):
            return _piece((token,), data)  # nothing to wait for: most tokens of most answers
        self._held.append(token)
        held = b"".join(token.data for token in self._held)
        end = self._stop_in(held)
        if end is not None:
            self.stopped = True
            return self._cut(held, end)
        return self._release(held, len(held) - self._possible_stop(held))

    def flush(self) -> Piece | None:
        """Give out what is held back, for no more will come."""
        return self._give(len(self._held))

    def _stop_in(self, held: bytes) -> int | None:
        """Find where the text ends; gives up the stop strings if the text left their reach."""
        found = [at for at in (held.find(stop) for stop in self._stops) if at >= 0]
        limit = held.find(self._until) if self._until else -1
        if limit >= 0 and not any(at < limit for at in found):
            self._stops, self._until = (), None
            return None
        return min(found, default=None)

    def _possible_stop(self, held: bytes) -> int:
        """Length of the longest end of `held` with which a stop string (or the limit) begins."""
        awaited = self._stops + ((self._until,) if self._until and self._stops else ())
        return max((_overlap(held, text) for text in awaited), default=0)

    def _release(self, held: bytes, certain: int) -> Piece | None:
        """Give out the most whole tokens that end within `certain` and not inside a character."""
        length = count = 0
        for number, token in enumerate(self._held, 1):
            length += len(token.data)
            if length <= certain and not unfinished(held[:length]):
                count = number
        return self._give(count)

    def _give(self, count: int) -> Piece | None:
        tokens, self._held = tuple(self._held[:count]), self._held[count:]
        return _piece(tokens, b"".join(token.data for token in tokens)) if tokens else None

    def _cut(self, held: bytes, end: int) -> Piece | None:
        """Give out the text before a stop string, and the tokens any of it lies in."""
        tokens, start = [], 0
        for token in self._held:
            if start < end:
                tokens.append(token)
            start += len(token.data)
        self._held = []
        return _piece(tuple(tokens), held[:end]) if tokens else None


def _piece(tokens: tuple[ShownToken, ...], data: bytes) -> Piece:
    return Piece(data.decode(errors="replace"), tokens)


def _overlap(held: bytes, text: bytes) -> int:
    """Length of the longest proper beginning of `text` that `held` ends with."""
    longest = min(len(held), len(text) - 1)
    return next((n for n in range(longest, 0, -1) if held.endswith(text[:n])), 0)


def unfinished(data: bytes) -> int:
    """Number of bytes at the end of `data` that begin a UTF-8 character and do not end it."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue  # a continuation byte: its character began earlier
        length = 2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4
        return back if byte & 0xC0 == 0xC0 and byte < 0xF8 and length > back else 0
    return 0
