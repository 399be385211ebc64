"""From the items of a response's input to the chat that they are.

One conversation has two spellings at OpenAI. This is the only place that knows the second: what
follows (template, grammar, budget) reads chats.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.openai.messages import (
    AssistantMessage,
    CalledFunction,
    Instruction,
    Message,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from server.openai.response_schemas import (
    FlatSchemaFormat,
    FunctionTool,
    InputCall,
    InputCallOutput,
    InputMessage,
    InputRefusal,
    InputText,
    NamedFunction,
    ResponsesRequest,
)
from server.openai.schemas import (
    ChatRequest,
    ChosenFunction,
    Function,
    JsonSchema,
    NamedChoice,
    PlainFormat,
    SchemaFormat,
    Tool,
)

_SHARED = (
    "model", "frequency_penalty", "presence_penalty", "temperature", "top_p", "seed", "stop",
    "logit_bias", "stream", "top_k", "min_p", "repetition_penalty", "ignore_eos", "min_tokens",
    "parallel_tool_calls",
)  # fmt: skip


def as_chat(request: ResponsesRequest) -> ChatRequest:
    """The chat that asks for the same; every part of it was validated already."""
    shown = request.shows_logprobs
    return ChatRequest.model_construct(
        **{name: getattr(request, name) for name in _SHARED},
        messages=_messages(request),
        max_completion_tokens=request.max_output_tokens,
        tools=[_tool(tool) for tool in request.tools or ()] or None,
        tool_choice=_choice(request),
        response_format=_format(request),
        logprobs=shown,
        top_logprobs=request.top_logprobs if shown else None,
    )


def _messages(request: ResponsesRequest) -> list[Message]:
    messages: list[Message] = []
    if request.instructions:
        messages.append(Instruction(role="system", content=request.instructions))
    if isinstance(request.input, str):
        messages.append(UserMessage(role="user", content=request.input))
        return messages
    for item in request.input:
        match item:
            case InputMessage():
                messages.append(_message(item))
            case InputCall():
                _add_call(messages, item)
            case InputCallOutput():
                output = _content(item.output)
                messages.append(ToolMessage(role="tool", content=output, tool_call_id=item.call_id))
            case _:
                continue  # reasoning
    return messages


def _message(item: InputMessage) -> Message:
    content = _content(item.content)
    if item.role == "assistant":
        return AssistantMessage(role="assistant", content=content)
    if item.role == "user":
        return UserMessage(role="user", content=content)
    return Instruction(role=item.role, content=content)


def _add_call(messages: list[Message], item: InputCall) -> None:
    """Add a call to the assistant's turn, which other calls or a text may have begun."""
    call = ToolCall(
        id=item.call_id, function=CalledFunction(name=item.name, arguments=item.arguments)
    )
    turn = messages[-1] if messages else None
    if isinstance(turn, AssistantMessage):
        turn.tool_calls = [*(turn.tool_calls or ()), call]
    else:
        messages.append(AssistantMessage(role="assistant", content=None, tool_calls=[call]))


def _content(content: str | Sequence[InputText | InputRefusal]) -> str:
    """The text of an item; of several parts, each begins a line."""
    if isinstance(content, str):
        return content
    return "\n".join(p.text if isinstance(p, InputText) else p.refusal for p in content)


def _tool(tool: FunctionTool) -> Tool:
    function = Function.model_construct(
        name=tool.name,
        description=tool.description,
        parameters=tool.parameters,
        strict=tool.strict,
    )
    return Tool.model_construct(type="function", function=function)


def _choice(request: ResponsesRequest) -> str | NamedChoice | None:
    choice = request.tool_choice
    if isinstance(choice, NamedFunction):
        return NamedChoice(type="function", function=ChosenFunction(name=choice.name))
    return choice


def _format(request: ResponsesRequest) -> PlainFormat | SchemaFormat | None:
    asked = request.text.format if request.text else None
    if not isinstance(asked, FlatSchemaFormat):
        return asked
    schema = JsonSchema.model_construct(
        name=asked.name, description=asked.description, schema_=asked.schema_, strict=asked.strict
    )
    return SchemaFormat.model_construct(type="json_schema", json_schema=schema)
