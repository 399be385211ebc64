"""The request bodies of the OpenAI endpoints, as they are accepted.

Types are strict (a number in a string is refused), `null` is the same as absent for every optional
field, and a field that nobody here knows is ignored, as clients of other servers expect. A field
that OpenAI defines and that would change the answer, but that we do not serve, is refused by name
with `unsupported_parameter` or `unsupported_value`; fields about identity, storage and billing are
accepted and have no effect.

Errors of these models quote their input. Only `validation` may read them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

NAME_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"
MAX_CHOICES = 128
MAX_TOOLS = 128
MAX_STOPS = 4
INT64 = 2**63


def _integral(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Read 3.0 as 3: JSON has one kind of number, and a re-encoded request must mean the same."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shape(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Name the branch of a union by the JSON type of the value, so that one error is reported."""
    return {str: "=text", list: "=list", dict: "=object"}.get(type(value))


def _union(choose: Callable[[Any], str | None], words: str) -> Discriminator:
    """A union whose branch `choose` names; `words` say what is accepted.

    The names begin with "=", so that no location in an error can take them for fields.
    """
    return Discriminator(choose, custom_error_type="wrong_branch", custom_error_message=words)


def _unsupported(what: str) -> PydanticCustomError:
    return PydanticCustomError("unsupported_value", what)  # type: ignore[arg-type]


Int = Annotated[int, BeforeValidator(_integral)]
Probability = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
NonEmpty = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True
    )


# Messages


class TextPart(_Strict):
    """A piece of text inside a message."""

    type: Literal["text"]
    text: str


class RefusalPart(_Strict):
    """A refusal the assistant gave earlier."""

    type: Literal["refusal"]
    refusal: str


_OTHER_PARTS = frozenset({"image_url", "input_audio", "file", "refusal"})


def _known_part(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict) and value.get("type") in _OTHER_PARTS:
        raise _unsupported("Only text parts are served in this message.")
    return value


Part = Annotated[TextPart, BeforeValidator(_known_part)]


def _assistant_part(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict) and value.get("type") == "refusal":
        return RefusalPart.model_validate(value)
    return _known_part(value)


AssistantPart = Annotated[TextPart | RefusalPart, BeforeValidator(_assistant_part)]
Content = Annotated[
    Annotated[str, Tag("=text")] | Annotated[list[Part], Field(min_length=1), Tag("=list")],
    _union(_shape, "must be a string or an array of text parts"),
]
AssistantContent = Annotated[
    Annotated[str, Tag("=text")] | Annotated[list[AssistantPart], Tag("=list")],
    _union(_shape, "must be a string or an array of text parts"),
]


class CalledFunction(_Strict):
    """Name and arguments of a call the assistant made; the arguments are JSON text by custom."""

    name: str
    arguments: str


class ToolCall(_Strict):
    """A call the assistant made in an earlier turn."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction

    @field_validator("type", mode="before")
    @classmethod
    def _no_custom(cls, value: object) -> object:
        if value == "custom":
            raise _unsupported("Only calls of functions are served.")
        return value


class Instruction(_Strict):
    """A system or developer message."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(_Strict):
    """What the user said."""

    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantMessage(_Strict):
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


class ToolMessage(_Strict):
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
    _union(_role, "must have the role system, developer, user, assistant or tool"),
]


# Tools and formats


class Function(_Strict):
    """A function the model may call. No parameters means an empty object of arguments."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Strict):
    """A tool the model may call."""

    type: Literal["function"]
    function: Function

    @field_validator("type", mode="before")
    @classmethod
    def _no_custom(cls, value: object) -> object:
        if value == "custom":
            raise _unsupported("Only tools of type function are served.")
        return value


class ChosenFunction(_Strict):
    """The name in a named tool choice."""

    name: str


class NamedChoice(_Strict):
    """A tool choice that forces one function."""

    type: Literal["function"]
    function: ChosenFunction

    @field_validator("type", mode="before")
    @classmethod
    def _no_other_choice(cls, value: object) -> object:
        if value in ("custom", "allowed_tools"):
            raise _unsupported("A tool choice is none, auto, required or one function's name.")
        return value


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("=text")]
    | Annotated[NamedChoice, Tag("=object")],
    _union(_shape, "must be none, auto, required or the choice of one function"),
]


class JsonSchema(_Strict):
    """The schema of a structured answer; without one, any JSON object."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class PlainFormat(_Strict):
    """An answer in text, or in any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(_Strict):
    """An answer that follows a JSON schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


def _format(value: Any) -> str:  # noqa: ANN401 - any JSON value
    kind = value.get("type") if isinstance(value, dict) else None
    return "=schema" if kind == "json_schema" else "=plain"


ResponseFormat = Annotated[
    Annotated[PlainFormat, Tag("=plain")] | Annotated[SchemaFormat, Tag("=schema")],
    Discriminator(_format),
]


class StreamOptions(_Strict):
    """What a stream carries beside the deltas."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


# Bodies

Stop = Annotated[
    Annotated[NonEmpty, Tag("=text")]
    | Annotated[list[NonEmpty], Field(max_length=MAX_STOPS), Tag("=list")],
    _union(_shape, "must be a string or an array of strings"),
]
Bias = Annotated[float, Field(ge=-100, le=100)]


class SamplingFields(_Strict):
    """The fields both endpoints share."""

    model: str
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    seed: Annotated[Int, Field(ge=-INT64, le=INT64 - 1)] | None = None
    stop: Stop | None = None
    n: Annotated[Int, Field(ge=1, le=MAX_CHOICES)] | None = None
    logit_bias: dict[str, Bias] | None = None
    max_tokens: Annotated[Int, Field(ge=0, le=INT64 - 1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Beyond OpenAI, as vLLM and SGLang take them
    top_k: Annotated[Int, Field(ge=-1, le=INT64 - 1)] | None = None
    min_p: Probability | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[Int, Field(ge=0)] | None = None
    # Accepted, without effect, kept nowhere
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError(
                "options_without_stream", "stream_options is only allowed when stream is true."
            )
        return self

    @property
    def choices(self) -> int:
        """How many choices each prompt gets."""
        return self.n or 1

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(SamplingFields):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[Int, Field(ge=1, le=INT64 - 1)] | None = None
    max_completion_tokens: Annotated[Int, Field(ge=1, le=INT64 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[Int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError(
                "top_without_logprobs", "top_logprobs is only allowed when logprobs is true."
            )
        return self


Ids = list[Int]


def _prompt_shape(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    if not isinstance(value, list):
        return _shape(value)
    first = value[0] if value else ""
    return {str: "=texts", list: "=id_lists"}.get(type(first), "=ids")


Prompt = Annotated[
    Annotated[str, Tag("=text")]
    | Annotated[list[str], Field(min_length=1), Tag("=texts")]
    | Annotated[Ids, Tag("=ids")]
    | Annotated[list[Annotated[Ids, Field(min_length=1)]], Tag("=id_lists")],
    _union(_prompt_shape, "must be a string, an array of strings, token ids or arrays of them"),
]


class CompletionRequest(SamplingFields):
    """The body of POST /v1/completions."""

    prompt: Prompt
    echo: bool | None = None
    logprobs: Annotated[Int, Field(ge=0, le=5)] | None = None
