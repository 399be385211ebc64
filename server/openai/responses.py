"""POST /v1/responses, stateless: everything is in the request, and nothing is kept of it.

    whole     the response object; the receipt is its last member
    stream    response.created, response.in_progress, the events of its items (`response_items`),
              response.completed or response.incomplete; the receipt is the last member of the
              response in the last event. No `[DONE]` follows, as with OpenAI.

What the request said (instructions, tools, schema) is repeated where OpenAI repeats it, but in the
two first events of a stream: their size would tell its length to whoever watches the wire, while
that of the last event is a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from server.openai.chat import understand
from server.openai.errors import InvalidRequest
from server.openai.generation import Step
from server.openai.model import LoadedModel
from server.openai.outputs import Event, Usage
from server.openai.payloads import encode, random_id
from server.openai.plan import GenerationPlan
from server.openai.response_input import as_chat
from server.openai.response_items import OutputItems
from server.openai.response_schemas import ResponsesRequest

Json = dict[str, Any]

# Names of chat parameters in errors, as this endpoint has them.
_NAMES = (
    ("response_format.json_schema.schema", "text.format.schema"),
    (".function.parameters", ".parameters"),
    ("messages", "input"),
)


def plan_response(model: LoadedModel, request: ResponsesRequest) -> GenerationPlan:
    """Plan a response.

    Raises:
        InvalidRequest: it cannot be answered as asked.
    """
    chat = as_chat(request)
    if not chat.messages:
        raise InvalidRequest("invalid_value", "input must hold a message.", "input")
    try:
        asked = understand(model, chat)
    except InvalidRequest as error:
        raise _renamed(error) from None
    items = OutputItems(model.tokenizer, asked.form, asked.top_logprobs)
    frame = _frame(request, model.served.name)
    writer = ResponseWriter(frame, _repeated(request), items, model.served.fingerprint)
    return GenerationPlan(asked.terms, writer, streamed=bool(request.stream))


def _renamed(error: InvalidRequest) -> InvalidRequest:
    if error.param is not None:
        for old, new in _NAMES:
            error.message = error.message.replace(old, new)
            error.param = error.param.replace(old, new)
    return error


def _frame(request: ResponsesRequest, model: str) -> Json:
    """What every event says of the response, whatever was asked."""
    return {
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "model": model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": request.reasoning and request.reasoning.effort, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": request.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": request.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }


def _repeated(request: ResponsesRequest) -> Json:
    """What a complete response repeats of its request."""
    repeated: Json = {
        "instructions": request.instructions,
        "tools": [tool.model_dump() for tool in request.tools or ()],
    }
    if request.tool_choice is not None:
        choice = request.tool_choice
        repeated["tool_choice"] = choice if isinstance(choice, str) else choice.model_dump()
    text = request.text
    if text is not None and text.format is not None:
        repeated["text"] = {"format": text.format.model_dump(by_alias=True)}
    if text is not None and text.verbosity is not None:
        repeated.setdefault("text", {"format": {"type": "text"}})["verbosity"] = text.verbosity
    return repeated


@dataclass
class ResponseWriter:
    """Writes one response; see `plan.Writer`.

    Args:
        frame: what every event says of it.
        repeated: what only the complete response says: the request's own words.
        items: its output.
        fingerprint: the model's, if known.
    """

    frame: Json
    repeated: Json
    items: OutputItems
    fingerprint: str | None
    _id: str = field(default_factory=lambda: random_id("resp_", 48))
    _cut: bool = False

    def whole(self, steps: Iterator[Step], usage: Callable[[], Usage], now: int) -> bytes:
        """See `plan.Writer`."""
        for step in steps:
            for _ in self._told(step):
                pass
        return encode(self._complete(now, usage()), last=True)

    def events(
        self, steps: Iterator[Step], usage: Callable[[], Usage], now: int
    ) -> Iterator[Event]:
        """See `plan.Writer`."""
        for number, payload in enumerate(self._payloads(steps, usage, now)):
            kind, members = payload.pop("type"), payload
            last = kind == self._last
            numbered = {"type": kind, "sequence_number": number, **members}
            yield Event(encode(numbered, last=last, depth=2), last=last, then=None)

    def _payloads(
        self, steps: Iterator[Step], usage: Callable[[], Usage], now: int
    ) -> Iterator[Json]:
        begun = False
        for step in steps:
            if not begun:
                begun = True
                for kind in ("response.created", "response.in_progress"):
                    yield {"type": kind, "response": self._object(now, "in_progress", self.frame)}
            yield from self._told(step)
        yield {"type": self._last, "response": self._complete(now, usage())}

    def _told(self, step: Step) -> Iterator[Json]:
        self._cut = self._cut or step.finish == "length"
        return self.items.events(step)

    @property
    def _last(self) -> str:
        return "response.incomplete" if self._cut else "response.completed"

    def _complete(self, now: int, usage: Usage) -> Json:
        details = {"reason": "max_output_tokens"} if self._cut else None
        members = {
            **self.frame,
            **self.repeated,
            "incomplete_details": details,
            "output": self.items.items,
            "usage": _usage(usage),
        }
        return self._object(now, "incomplete" if self._cut else "completed", members)

    def _object(self, now: int, status: str, members: Json) -> Json:
        return {
            "id": self._id,
            "object": "response",
            "created_at": now,
            "status": status,
            "system_fingerprint": self.fingerprint,
            **members,
        }


def _usage(usage: Usage) -> Json:
    """Token counts as responses have them. Nothing is cached from one request to another."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
