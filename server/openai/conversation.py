"""From the messages of a chat to the ids of its prompt.

What a message says is text: the name of a control token inside it must not become that token, or
whoever wrote a tool's result could close the turn and speak as the system. So every such name is
fenced before the template is rendered, and what is within a fence is encoded literally.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from typing import Any

from server.openai.chat_template import ChatTemplate
from server.openai.errors import ContextLengthExceeded, InvalidRequest
from server.openai.json_text import decode_object
from server.openai.messages import (
    AssistantMessage,
    Message,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolMessage,
)
from server.openai.schemas import Tool
from server.openai.tokenizer import Tokenizer
from server.openai.tool_format import ToolFormat

Json = dict[str, Any]

# Unicode noncharacters, set aside for internal use; no text has a reason to hold them.
_FENCE = "\ufdd0"
_FENCE_END = "\ufdd1"


def prompt_ids(
    messages: Sequence[Message],
    tools: Sequence[Tool],
    *,
    template: ChatTemplate | None,
    tokenizer: Tokenizer,
    form: ToolFormat,
    context: int,
) -> list[int]:
    """Render and encode a conversation.

    A model whose template has no place for tools is told about them in a system message.

    Raises:
        InvalidRequest: the model has no chat template, or its template refuses the conversation.
        ContextLengthExceeded: it is far longer than `context` tokens.
    """
    if template is None:
        raise InvalidRequest(
            "unsupported_model",
            "This model has no chat template; it serves /v1/completions only.",
            "model",
        )
    written = [_message(message, template) for message in messages]
    described = [tool.model_dump(exclude_none=True) for tool in tools]
    if described and not template.knows_tools:
        _introduce(described, form, written)
        described = []
    fenced = _Fence(tokenizer)
    rendered = template.render(fenced.put(written), fenced.put(described) or None)
    if tokenizer.surely_exceeds(rendered, context):
        raise ContextLengthExceeded(context=context, prompt=None)
    return fenced.encode(rendered)


def _message(message: Message, template: ChatTemplate) -> Json:
    if isinstance(message, AssistantMessage):
        return _assistant(message)
    written = {"role": message.role, "content": _text(message.content)}
    if isinstance(message, ToolMessage):
        return {**written, "tool_call_id": message.tool_call_id}
    if message.role == "developer" and not template.knows_developer:
        written["role"] = "system"
    return {**written, "name": message.name} if message.name else written


def _assistant(message: AssistantMessage) -> Json:
    content = message.content if message.content is not None else message.refusal
    written: Json = {"role": "assistant", "content": "" if content is None else _text(content)}
    if message.tool_calls:
        written["tool_calls"] = [_call(call) for call in message.tool_calls]
    return written


def _text(content: str | Sequence[TextPart | RefusalPart]) -> str:
    """The text of a message; of several parts, each begins a line."""
    if isinstance(content, str):
        return content
    return "\n".join(p.text if isinstance(p, TextPart) else p.refusal for p in content)


def _call(call: ToolCall) -> Json:
    """A call as templates read it: arguments as an object, if they are one."""
    arguments: str | Json = call.function.arguments
    with contextlib.suppress(InvalidRequest):
        arguments = decode_object(call.function.arguments.encode())
    function = {"name": call.function.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _introduce(tools: list[Json], form: ToolFormat, messages: list[Json]) -> None:
    """Tell a model about its tools, and how to call one, in the words of a system message."""
    lines = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    example = f"{form.begin}{form.opening}NAME{form.middle}{{...}}{form.closing}{form.end}"
    words = f"You can call these functions:\n{lines}\nTo call one, answer with:\n{example}"
    if messages[0]["role"] == "system":
        messages[0]["content"] += "\n\n" + words
    else:
        messages.insert(0, {"role": "system", "content": words})


class _Fence:
    """Fences the names of special tokens in what others wrote."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        names = sorted(tokenizer.special, key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names)) or "(?!)")
        self._used = False

    def put(self, value: Any) -> Any:  # noqa: ANN401 - any JSON value
        """Fence every string in a JSON value; names of members too."""
        if isinstance(value, str):
            return self._put_text(value)
        if isinstance(value, dict):
            return {self.put(name): self.put(member) for name, member in value.items()}
        return [self.put(item) for item in value] if isinstance(value, list) else value

    def _put_text(self, text: str) -> str:
        text = text.replace(_FENCE, "").replace(_FENCE_END, "")
        fenced, count = self._names.subn(f"{_FENCE}\\g<0>{_FENCE_END}", text)
        self._used = self._used or count > 0
        return fenced

    def encode(self, rendered: str) -> list[int]:
        """Encode a rendered prompt. Half a fence, cut off by a template, only ends a token."""
        if not self._used:
            return self._tokenizer.encode_rendered(rendered)
        ids: list[int] = []
        pieces = re.split(f"{_FENCE}({self._names.pattern}){_FENCE_END}", rendered)
        for at, piece in enumerate(pieces):
            if at % 2:
                ids += self._tokenizer.encode_literally(piece)
            else:
                for part in re.split(f"[{_FENCE}{_FENCE_END}]", piece):
                    ids += self._tokenizer.encode_rendered(part) if part else []
        return ids
