"""The request bodies of the OpenAI endpoints, as they are accepted.

Types are strict (a number in a string is refused), `null` is the same as absent for every optional
field, and a field that nobody here knows is ignored, as clients of other servers expect. A field
that OpenAI defines and that would change the answer, but that we do not serve, is refused by name
with `unsupported_parameter` or `unsupported_value`; fields about identity, storage and billing are
accepted and have no effect.

Errors of these models quote their input. Only `validation` may read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from server.openai.fields import (
    INT64,
    Int,
    NonEmpty,
    Penalty,
    Probability,
    Strict,
    shape,
    union,
    unsupported,
)
from server.openai.messages import Message

NAME_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"
MAX_CHOICES = 128
MAX_TOOLS = 128
MAX_STOPS = 4


class Function(Strict):
    """A function the model may call. No parameters means an empty object of arguments."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    """A tool the model may call."""

    type: Literal["function"]
    function: Function

    @field_validator("type", mode="before")
    @classmethod
    def _no_custom(cls, value: object) -> object:
        if value == "custom":
            raise unsupported("Only tools of type function are served.")
        return value


class ChosenFunction(Strict):
    """The name in a named tool choice."""

    name: str


class NamedChoice(Strict):
    """A tool choice that forces one function."""

    type: Literal["function"]
    function: ChosenFunction

    @field_validator("type", mode="before")
    @classmethod
    def _no_other_choice(cls, value: object) -> object:
        if value in ("custom", "allowed_tools"):
            raise unsupported("A tool choice is none, auto, required or one function's name.")
        return value


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("=text")]
    | Annotated[NamedChoice, Tag("=object")],
    union(shape, "must be none, auto, required or the choice of one function"),
]


class JsonSchema(Strict):
    """The schema of a structured answer; without one, any JSON object."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class PlainFormat(Strict):
    """An answer in text, or in any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(Strict):
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


class StreamOptions(Strict):
    """What a stream carries beside the deltas."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


# Bodies

Stop = Annotated[
    Annotated[NonEmpty, Tag("=text")]
    | Annotated[list[NonEmpty], Field(max_length=MAX_STOPS), Tag("=list")],
    union(shape, "must be a string or an array of strings"),
]
Bias = Annotated[float, Field(ge=-100, le=100)]


class ModelFields(Strict):
    """What every request names."""

    model: str


class SamplingFields(ModelFields):
    """The fields all generating endpoints share."""

    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    seed: Annotated[Int, Field(ge=-INT64, le=INT64 - 1)] | None = None
    stop: Stop | None = None
    logit_bias: dict[str, Bias] | None = None
    stream: bool | None = None
    # Beyond OpenAI, as vLLM and SGLang take them
    top_k: Annotated[Int, Field(ge=-1, le=2**32 - 1)] | None = None
    min_p: Probability | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
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

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChoiceFields(SamplingFields):
    """The fields of the endpoints that answer with choices."""

    n: Annotated[Int, Field(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: Annotated[Int, Field(ge=0, le=INT64 - 1)] | None = None
    stream_options: StreamOptions | None = None

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
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(ChoiceFields):
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


_LISTS: Mapping[type, str] = {str: "=texts", list: "=id_lists"}


def _prompt_shape(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    if not isinstance(value, list):
        return shape(value)
    return _LISTS.get(type(value[0]) if value else str, "=ids")


Prompt = Annotated[
    Annotated[str, Tag("=text")]
    | Annotated[list[str], Field(min_length=1), Tag("=texts")]
    | Annotated[Ids, Tag("=ids")]
    | Annotated[list[Annotated[Ids, Field(min_length=1)]], Tag("=id_lists")],
    union(_prompt_shape, "must be a string, an array of strings, token ids or arrays of them"),
]


class CompletionRequest(ChoiceFields):
    """The body of POST /v1/completions."""

    prompt: Prompt
    echo: bool | None = None
    logprobs: Annotated[Int, Field(ge=0, le=5)] | None = None
