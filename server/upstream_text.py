"""Between token ids and an engine that knows text only, without a lie in between.

A prompt of ids is sent as text only if that text, tokenised as the other engine will, gives these
ids again: else a user's text that spells a control token would become one. Text that comes back is
tokenised event by event. So its bytes are exact; its tokens need not be those that were sampled,
and neither need their number.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.errors import StartError
from server.openai.tokenizer import Tokenizer
from server.upstream_dialect import Unsupported, UpstreamFailed

_PIECES = (" a", "b", "  ", "\n", "1", " é", "漢")
"""What an event may begin and end with; a tokenizer that joins or strips those is found out."""


class TextBridge:
    """The tokenizer of the model, standing between ids and text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Check that text can be tokenised piece by piece.

        Raises:
            StartError: it cannot with this tokenizer; an engine that returns ids is needed.
        """
        self._tokenizer = tokenizer
        try:
            for piece in _PIECES:
                self.ids(piece)
        except UpstreamFailed:
            raise StartError("this tokenizer does not tokenise text piece by piece") from None

    def prompt(self, ids: Sequence[int]) -> str:
        """Return the text of a prompt.

        Raises:
            Unsupported: the other engine would read another prompt in it.
        """
        encoded = b"".join(map(self._tokenizer.token_bytes, ids))
        try:
            text = encoded.decode()
        except UnicodeDecodeError:
            raise Unsupported("the prompt is no whole text") from None
        for candidate in (text, self._without_start(text, ids)):
            if self._tokenizer.encode(candidate) == list(ids):
                return candidate
        raise Unsupported("the prompt's text would be read as other tokens")

    def ids(self, text: str) -> list[int]:
        """Return ids whose bytes are those of `text`.

        Raises:
            UpstreamFailed: there are none.
        """
        ids = self._tokenizer.encode_literally(text)
        if b"".join(map(self._tokenizer.token_bytes, ids)) != text.encode():
            raise UpstreamFailed("the text cannot be told in tokens")
        return ids

    def _without_start(self, text: str, ids: Sequence[int]) -> str:
        """Return the text without a first token that the other engine adds by itself."""
        return text.removeprefix(self._tokenizer.token_bytes(ids[0]).decode(errors="replace"))
