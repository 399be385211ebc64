"""The body of POST /v1/responses, as it is accepted: stateless, text and calls of functions.

What would need memory between requests, or a tool that runs here, is refused by name. Of reasoning
items that a client sends back only the place is kept: this endpoint writes none that could be read.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from server.openai.fields import INT64, Int, Strict, shape, union, unsupported
from server.openai.schemas import (
    MAX_TOOLS,
    Function,
    JsonSchema,
    PlainFormat,
    SamplingFields,
)

LOGPROBS = "message.output_text.logprobs"
"""The entry of `include` that asks for log-probabilities."""


class InputText(Strict):
    """A piece of text in an input item."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class InputRefusal(Strict):
    """A refusal the assistant gave earlier."""

    type: Literal["refusal"]
    refusal: str


_OTHER_PARTS = ("input_image", "input_file", "input_audio")


def _part(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict) and value.get("type") in _OTHER_PARTS:
        raise unsupported("Only text parts are served in this item.")
    if isinstance(value, dict) and value.get("type") == "refusal":
        return InputRefusal.model_validate(value)
    return value


InputPart = Annotated[InputText | InputRefusal, BeforeValidator(_part)]
InputContent = Annotated[
    Annotated[str, Tag("=text")] | Annotated[list[InputPart], Field(min_length=1), Tag("=list")],
    union(shape, "must be a string or an array of text parts"),
]


class InputMessage(Strict):
    """A message, in OpenAI's short form or as an earlier response gave it."""

    type: Literal["message"] | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: InputContent


class InputCall(Strict):
    """A call the model made earlier."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class InputCallOutput(Strict):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: str
    output: InputContent


class InputReasoning(Strict):
    """Reasoning of an earlier response; not read."""

    type: Literal["reasoning"]


_ITEMS = {"message", "function_call", "function_call_output", "reasoning"}


def _item(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    if not isinstance(value, dict):
        return None
    kind = value.get("type", "message")
    return f"={kind}" if isinstance(kind, str) else "=message" if kind is None else None


def _known_item(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind not in _ITEMS:
        raise unsupported("Only messages, function calls and their outputs are served as input.")
    return value


Item = Annotated[
    Annotated[
        Annotated[InputMessage, Tag("=message")]
        | Annotated[InputCall, Tag("=function_call")]
        | Annotated[InputCallOutput, Tag("=function_call_output")]
        | Annotated[InputReasoning, Tag("=reasoning")],
        union(_item, "must be an input item: a message, a function call or its output"),
    ],
    BeforeValidator(_known_item),
]
Input = Annotated[
    Annotated[str, Tag("=text")] | Annotated[list[Item], Field(min_length=1), Tag("=list")],
    union(shape, "must be a string or an array of input items"),
]


class FunctionTool(Function):
    """A function the model may call; here its members stand beside the type."""

    type: Literal["function"]


def _function(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind != "function":
        raise unsupported("Only tools of type function are served; nothing is run here.")
    return value


class NamedFunction(Strict):
    """A tool choice that forces one function."""

    type: Literal["function"]
    name: str

    @field_validator("type", mode="before")
    @classmethod
    def _no_other_choice(cls, value: object) -> object:
        if isinstance(value, str) and value != "function":
            raise unsupported("A tool choice is none, auto, required or one function's name.")
        return value


Choice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("=text")]
    | Annotated[NamedFunction, Tag("=object")],
    union(shape, "must be none, auto, required or the choice of one function"),
]


class FlatSchemaFormat(JsonSchema):
    """An answer that follows a JSON schema; here its members stand beside the type."""

    type: Literal["json_schema"]


def _format(value: Any) -> str:  # noqa: ANN401 - any JSON value
    kind = value.get("type") if isinstance(value, dict) else None
    return "=schema" if kind == "json_schema" else "=plain"


class Text(Strict):
    """The form of the answer."""

    format: (
        Annotated[
            Annotated[PlainFormat, Tag("=plain")] | Annotated[FlatSchemaFormat, Tag("=schema")],
            Discriminator(_format),
        ]
        | None
    ) = None
    verbosity: str | None = None


class Reasoning(Strict):
    """Accepted without effect: how much a model reasons is its own affair."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponseStreamOptions(Strict):
    """Accepted without effect: every event is padded on its way in any case."""

    include_obfuscation: bool | None = None


class ResponsesRequest(SamplingFields):
    """The body of POST /v1/responses."""

    input: Input
    instructions: str | None = None
    max_output_tokens: Annotated[Int, Field(ge=1, le=INT64 - 1)] | None = None
    tools: (
        Annotated[
            list[Annotated[FunctionTool, BeforeValidator(_function)]], Field(max_length=MAX_TOOLS)
        ]
        | None
    ) = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    text: Text | None = None
    include: list[str] | None = None
    top_logprobs: Annotated[Int, Field(ge=0, le=20)] | None = None
    reasoning: Reasoning | None = None
    stream_options: ResponseStreamOptions | None = None
    max_tool_calls: Annotated[Int, Field(ge=0)] | None = None
    truncation: Literal["disabled"] | None = None
    background: bool | None = None

    @field_validator("truncation", mode="before")
    @classmethod
    def _nothing_is_left_out(cls, value: object) -> object:
        if value == "auto":
            raise unsupported("Nothing of the input is left out: truncation must be disabled.")
        return value

    @field_validator("background", mode="after")
    @classmethod
    def _nothing_is_kept(cls, value: bool | None) -> bool | None:
        if value:
            raise unsupported("A response is computed while its client waits, and not kept.")
        return value

    @property
    def shows_logprobs(self) -> bool:
        """Whether log-probabilities were asked for."""
        return LOGPROBS in (self.include or ()) or bool(self.top_logprobs)
