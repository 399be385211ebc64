"""The output items of one response, as they grow: a message, then the calls it makes.

    message         added, part added, text delta..., text done, part done, done
    function_call   added, arguments delta..., arguments done, done

Each event names its item by id and by index. An item is complete when the next one begins; the
last one is incomplete if the answer was cut at its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from server.openai.generation import Step
from server.openai.logprobs import chat_entries
from server.openai.parts import parts_of
from server.openai.payloads import random_id
from server.openai.tokenizer import Tokenizer
from server.openai.tool_format import Arguments, CallBegun, Content, Part, ToolFormat, ToolReader

Json = dict[str, Any]


class OutputItems:
    """The items of one response, and the events that tell of them (without sequence numbers)."""

    def __init__(self, tokenizer: Tokenizer, form: ToolFormat | None, top_logprobs: int) -> None:
        self.items: list[Json] = []
        self._tokenizer = tokenizer
        self._form = form
        self._reader = ToolReader(form) if form else None
        self._top = top_logprobs
        self._logprobs: list[Json] = []  # of tokens whose text was not told yet
        self._open = False

    def events(self, step: Step) -> Iterator[Json]:
        """The events of a step; the last step completes the last item."""
        if step.piece is not None and self._top >= 0:
            tokens = zip((token.data for token in step.piece.tokens), step.logprobs, strict=True)
            self._logprobs += chat_entries(self._tokenizer, tokens, self._top)
        for part in parts_of(step, self._reader):
            yield from self._part(part)
        if step.finish is not None:
            if not self.items:
                yield from self._begin_message()
            yield from self._end("completed" if step.finish == "stop" else "incomplete")

    def _part(self, part: Part) -> Iterator[Json]:
        match part:
            case Content(text):
                if not self._open:
                    yield from self._begin_message()
                yield self._text_delta(text)
            case CallBegun(_, name):
                yield from self._end("completed")
                yield self._begin_call(name)
            case Arguments(_, text):
                self.items[-1]["arguments"] += text
                yield self._of_item("response.function_call_arguments.delta", delta=text)

    def _begin_message(self) -> Iterator[Json]:
        yield self._begin(
            {
                "id": random_id("msg_"),
                "type": "message",
                "status": "in_progress",
                "role": "assistant",
                "content": [],
            }
        )
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield self._of_part("response.content_part.added", part=dict(part))
        self.items[-1]["content"].append(part)

    def _begin_call(self, name: str) -> Json:
        self._logprobs = []  # those of a call are told nowhere
        short = self._form is not None and self._form.short_ids
        return self._begin(
            {
                "id": random_id("fc_"),
                "type": "function_call",
                "status": "in_progress",
                "call_id": random_id("", 9) if short else random_id("call_"),
                "name": name,
                "arguments": "",
            }
        )

    def _begin(self, item: Json) -> Json:
        self.items.append(item)
        self._open = True
        copy = {**item, "content": []} if "content" in item else dict(item)
        return {
            "type": "response.output_item.added",
            "output_index": len(self.items) - 1,
            "item": copy,
        }

    def _text_delta(self, text: str) -> Json:
        part = self.items[-1]["content"][0]
        logprobs, self._logprobs = self._logprobs, []
        part["text"] += text
        part["logprobs"] += logprobs
        return self._of_part("response.output_text.delta", delta=text, logprobs=logprobs)

    def _end(self, status: str) -> Iterator[Json]:
        """Complete the open item, if there is one."""
        if not self._open:
            return
        self._open = False
        item = self.items[-1]
        item["status"] = status
        if item["type"] == "message":
            (part,) = item["content"]
            part["logprobs"] += self._logprobs
            yield self._of_part(
                "response.output_text.done", text=part["text"], logprobs=part["logprobs"]
            )
            yield self._of_part("response.content_part.done", part=part)
        else:
            yield self._of_item(
                "response.function_call_arguments.done",
                name=item["name"],
                arguments=item["arguments"],
            )
        yield {
            "type": "response.output_item.done",
            "output_index": len(self.items) - 1,
            "item": item,
        }

    def _of_item(self, kind: str, **members: Any) -> Json:  # noqa: ANN401 - JSON
        at = len(self.items) - 1
        return {"type": kind, "item_id": self.items[at]["id"], "output_index": at, **members}

    def _of_part(self, kind: str, **members: Any) -> Json:  # noqa: ANN401 - JSON
        return self._of_item(kind, content_index=0, **members)
