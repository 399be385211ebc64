"""The choices of a chat completion, as deltas of a stream and as whole messages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from server.openai.choices import Answer
from server.openai.generation import Step
from server.openai.logprobs import chat_entries
from server.openai.parts import parts_of
from server.openai.payloads import random_id
from server.openai.tokenizer import Tokenizer
from server.openai.tool_format import Arguments, CallBegun, Content, Part, ToolFormat, ToolReader

Json = dict[str, Any]


class ChatAnswer(Answer):
    """The choices of a chat completion."""

    id_prefix = "chatcmpl-"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(
        self, choices: int, tokenizer: Tokenizer, form: ToolFormat | None, top_logprobs: int
    ) -> None:
        self._choices = [_Choice(i, tokenizer, form, top_logprobs) for i in range(choices)]

    def entries(self, step: Step) -> list[Json]:
        """The deltas of a step: the first of a choice has the role, the last the finish reason."""
        return self._choices[step.index].entries(step)

    def whole(self, entries: Sequence[Json]) -> list[Json]:
        """Messages, from the deltas of each choice."""
        return [
            _message([entry for entry in entries if entry["index"] == index])
            for index in range(len(self._choices))
        ]


class _Choice:
    """One choice on its way."""

    def __init__(
        self, index: int, tokenizer: Tokenizer, form: ToolFormat | None, top_logprobs: int
    ) -> None:
        self._index = index
        self._tokenizer = tokenizer
        self._form = form
        self._reader = ToolReader(form) if form else None
        self._top = top_logprobs
        self._logprobs: list[Json] = []
        self._begun = False
        self._plain = form is None and top_logprobs < 0

    def entries(self, step: Step) -> list[Json]:
        if self._begun and self._plain and step.piece is not None and step.finish is None:
            return [self._entry({"content": step.piece.text})]  # one of many: straight on
        deltas = [self._delta(part) for part in parts_of(step, self._reader)]
        if step.piece is not None and self._top >= 0:
            shown = zip((token.data for token in step.piece.tokens), step.logprobs, strict=True)
            self._logprobs += chat_entries(self._tokenizer, shown, self._top)
        entries = [self._entry(delta) for delta in deltas]
        if entries and not self._begun:
            self._begun = True
            entries.insert(0, self._first())
        if step.finish is not None:
            entries += self._ending(step.finish)
        return entries

    def _delta(self, part: Part) -> Json:
        match part:
            case Content(text):
                return {"content": text}
            case CallBegun(index, name):
                call_id = random_id("", 9) if self._form and self._form.short_ids else None
                function = {"name": name, "arguments": ""}
                return _call(
                    index, id=call_id or random_id("call_"), type="function", **_f(function)
                )
            case Arguments(index, text):
                return _call(index, **_f({"arguments": text}))

    def _first(self) -> Json:
        role = {"role": "assistant", "content": ""}
        return {"index": self._index, "delta": role, "logprobs": None, "finish_reason": None}

    def _entry(self, delta: Json, finish: str | None = None) -> Json:
        """An entry with the log-probabilities that are due."""
        entries, self._logprobs = self._logprobs, []
        return {
            "index": self._index,
            "delta": delta,
            "logprobs": _chat_logprobs(entries),
            "finish_reason": finish,
        }

    def _ending(self, finish: str) -> list[Json]:
        first = [] if self._begun else [self._first()]
        called = self._reader is not None and self._reader.calls > 0
        return [*first, self._entry({}, "tool_calls" if called and finish == "stop" else finish)]


def _f(function: Json) -> Json:
    return {"function": function}


def _call(index: int, **members: Any) -> Json:  # noqa: ANN401 - JSON
    return {"tool_calls": [{"index": index, **members}]}


def _chat_logprobs(entries: list[Json]) -> Json | None:
    return {"content": entries, "refusal": None} if entries else None


def _message(entries: Sequence[Json]) -> Json:
    """Put the deltas of one choice together, as a client would."""
    deltas = [entry["delta"] for entry in entries]
    content = "".join(delta.get("content", "") for delta in deltas)
    calls: list[Json] = []
    for part in (part for delta in deltas for part in delta.get("tool_calls", ())):
        if "id" in part:
            calls.append({name: part[name] for name in ("id", "type", "function")})
        else:
            calls[-1]["function"]["arguments"] += part["function"]["arguments"]
    message: Json = {"role": "assistant", "content": content, "refusal": None}
    if calls:
        message |= {"content": content or None, "tool_calls": calls}
    shown = [entry["logprobs"]["content"] for entry in entries if entry["logprobs"]]
    return {
        "index": entries[-1]["index"],
        "message": message,
        "logprobs": _chat_logprobs(list(chain.from_iterable(shown))),
        "finish_reason": entries[-1]["finish_reason"],
    }
