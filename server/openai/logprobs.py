"""Log-probabilities in the two forms of OpenAI: a list of objects (chat), parallel lists (text)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.types import Logprobs
from server.openai.tokenizer import Tokenizer

Json = dict[str, Any]

FLOOR = -9999.0  # OpenAI's number for a probability of zero; JSON has no infinity


def chat_entries(
    tokenizer: Tokenizer, tokens: Iterable[tuple[bytes, Logprobs]], top: int
) -> list[Json]:
    """One object a token, with its `top` most probable alternatives, the likeliest first."""
    return [
        {
            **_entry(data, logprobs.chosen),
            "top_logprobs": [
                _entry(tokenizer.token_bytes(token_id), value)
                for token_id, value in _likeliest(logprobs, top)
            ],
        }
        for data, logprobs in tokens
    ]


def _entry(data: bytes, logprob: float) -> Json:
    text = data.decode(errors="replace")
    return {"token": text, "logprob": _finite(logprob), "bytes": list(data)}


def _likeliest(logprobs: Logprobs, top: int) -> Sequence[tuple[int, float]]:
    return sorted(logprobs.top, key=lambda pair: (-pair[1], pair[0]))[:top]


def _finite(logprob: float) -> float:
    return max(logprob, FLOOR)


def _empty_lists() -> Json:
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


@dataclass
class TextLogprobs:
    """The parallel lists of /v1/completions, growing as text comes."""

    tokenizer: Tokenizer
    top: int
    _lists: Json = field(default_factory=_empty_lists)

    def add(self, data: bytes, logprobs: Logprobs | None, at: int) -> None:
        """Add a token that begins `at` characters into the text; the first of a prompt has none."""
        self._lists["tokens"].append(_name(data))
        self._lists["text_offset"].append(at)
        self._lists["token_logprobs"].append(None if logprobs is None else _finite(logprobs.chosen))
        self._lists["top_logprobs"].append(None if logprobs is None else self._top(data, logprobs))

    def _top(self, data: bytes, logprobs: Logprobs) -> Json:
        """The likeliest tokens by text, and the chosen one."""
        named = {
            _name(self.tokenizer.token_bytes(token_id)): _finite(value)
            for token_id, value in _likeliest(logprobs, self.top)
        }
        return {**named, _name(data): _finite(logprobs.chosen)}

    def take(self) -> Json:
        """Give out the lists and begin new ones."""
        lists, self._lists = self._lists, _empty_lists()
        return lists


def _name(data: bytes) -> str:
    """A token as a text; part of a character is spelled out, so that no two share a name."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
