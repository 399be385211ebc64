"""The messages of a chat request, as they are accepted: text, and the calls of tools."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from server.openai.fields import Strict, shape, union, unsupported


class TextPart(Strict):
    """A piece of text inside a message."""

    type: Literal["text"]
    text: str


class RefusalPart(Strict):
    """A refusal the assistant gave earlier."""

    type: Literal["refusal"]
    refusal: str


_OTHER_PARTS = ("image_url", "input_audio", "file", "refusal")


def _known_part(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict) and value.get("type") in _OTHER_PARTS:
        raise unsupported("Only text parts are served in this message.")
    return value


Part = Annotated[TextPart, BeforeValidator(_known_part)]


def _assistant_part(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict) and value.get("type") == "refusal":
        return RefusalPart.model_validate(value)
    return _known_part(value)


AssistantPart = Annotated[TextPart | RefusalPart, BeforeValidator(_assistant_part)]
Content = Annotated[
    Annotated[str, Tag("=text")] | Annotated[list[Part], Field(min_length=1), Tag("=list")],
    union(shape, "must be a string or an array of text parts"),
]
AssistantContent = Annotated[
    Annotated[str, Tag("=text")] | Annotated[list[AssistantPart], Tag("=list")],
    union(shape, "must be a string or an array of text parts"),
]


class CalledFunction(Strict):
    """Name and arguments of a call the assistant made; the arguments are JSON text by custom."""

    name: str
    arguments: str


class ToolCall(Strict):
    """A call the assistant made in an earlier turn."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction

    @field_validator("type", mode="before")
    @classmethod
    def _no_custom(cls, value: object) -> object:
        if value == "custom":
            raise unsupported("Only calls of functions are served.")
        return value


class Instruction(Strict):
    """A system or developer message."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(Strict):
    """What the user said."""

    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantMessage(Strict):
    """What the model said earlier. Content may be null if it called tools."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: None = None
    audio: None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and self.refusal is None and not self.tool_calls:
            raise PydanticCustomError(
                "missing_content", "An assistant message needs content, unless it calls tools."
            )
        return self


class ToolMessage(Strict):
    """The result of a call."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str


def _role(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    role = value.get("role") if isinstance(value, dict) else None
    return f"={role}" if isinstance(role, str) else None


Message = Annotated[
    Annotated[Instruction, Tag("=system")]
    | Annotated[Instruction, Tag("=developer")]
    | Annotated[UserMessage, Tag("=user")]
    | Annotated[AssistantMessage, Tag("=assistant")]
    | Annotated[ToolMessage, Tag("=tool")],
    union(_role, "must have the role system, developer, user, assistant or tool"),
]
