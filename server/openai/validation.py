"""From a decoded body to a typed request, or to an error whose text is ours.

pydantic's own messages quote the input; none of them leaves this file. An error is described by its
type and by where it is: names of fields that the schemas define, and positions in lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from server.openai import response_schemas, schemas, tokenization
from server.openai.errors import InvalidRequest

Request = TypeVar("Request", bound=schemas.ModelFields)

# Parameters OpenAI defines, that would change the answer, and that are not served.
UNSUPPORTED: Mapping[type[schemas.ModelFields], frozenset[str]] = {
    schemas.ChatRequest: frozenset(
        {
            "audio",
            "function_call",
            "functions",
            "moderation",
            "prediction",
            "web_search_options",
        }
    ),
    schemas.CompletionRequest: frozenset({"best_of", "suffix"}),
    response_schemas.ResponsesRequest: frozenset(
        {"context_management", "conversation", "moderation", "previous_response_id", "prompt"}
    ),
}

# pydantic's error type: our code and our words. Context holds bounds and accepted values only.
_TEXTS: Mapping[str, tuple[str, str]] = {
    "missing": ("missing_required_parameter", "is required"),
    "string_type": ("invalid_type", "must be a string"),
    "int_type": ("invalid_type", "must be an integer"),
    "float_type": ("invalid_type", "must be a number"),
    "bool_type": ("invalid_type", "must be true or false"),
    "list_type": ("invalid_type", "must be an array"),
    "dict_type": ("invalid_type", "must be an object"),
    "model_type": ("invalid_type", "must be an object"),
    "none_required": ("unsupported_parameter", "is not supported here"),
    "literal_error": ("invalid_value", "must be {expected}"),
    "greater_than_equal": ("invalid_value", "must be at least {ge}"),
    "greater_than": ("invalid_value", "must be greater than {gt}"),
    "less_than_equal": ("invalid_value", "must be at most {le}"),
    "string_too_short": ("invalid_value", "must not be empty"),
    "string_pattern_mismatch": (
        "invalid_value",
        "must be 1 to 64 letters, digits, underscores or dashes",
    ),
    "too_short": ("invalid_value", "must have at least {min_length} item"),
    "too_long": ("invalid_value", "must have at most {max_length} items"),
}
_UNKNOWN = ("invalid_value", "is not acceptable")

# Rules of our own: (code, parameter). Their whole text stands where they are raised.
_RULES: Mapping[str, tuple[str, str | None]] = {
    "unsupported_value": ("unsupported_value", None),
    "missing_content": ("missing_required_parameter", "content"),
    "options_without_stream": ("invalid_value", "stream_options"),
    "top_without_logprobs": ("invalid_value", "top_logprobs"),
    "prompt_or_messages": ("missing_required_parameter", "prompt"),
}


def parse(model: type[Request], body: dict[str, Any]) -> Request:
    """Validate a decoded body.

    Raises:
        InvalidRequest: the first thing wrong with it, or a parameter that is not served.
    """
    for name in sorted(UNSUPPORTED.get(model, ())):
        if body.get(name) is not None:
            raise InvalidRequest(
                "unsupported_parameter", f"The parameter {name} is not supported here.", name
            )
    try:
        return model.model_validate(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
    raise _explain(details)


def _explain(error: ErrorDetails) -> InvalidRequest:
    param = _parameter(error["loc"])
    kind = error["type"]
    if kind == "wrong_branch":
        return InvalidRequest("invalid_type", f"{param} {error['msg']}.", param)
    if kind in _RULES:
        code, member = _RULES[kind]
        return InvalidRequest(code, error["msg"], ".".join(filter(None, (param, member))) or None)
    code, text = _TEXTS.get(kind, _UNKNOWN)
    words = text.format_map({name: _plain(bound) for name, bound in error.get("ctx", {}).items()})
    return InvalidRequest(code, f"{param or 'The body'} {words}.", param)


def _plain(bound: Any) -> Any:  # noqa: ANN401 - a number or accepted values
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _parameter(location: tuple[int | str, ...]) -> str | None:
    """Write a location as `messages[2].content`, leaving out all that the client named itself."""
    written = ""
    for step in location:
        if isinstance(step, int):
            written += f"[{step}]"
        elif step in FIELD_NAMES:
            written += f".{step}"
    return written.removeprefix(".") or None


def _field_names(model: type[BaseModel]) -> frozenset[str]:
    """Collect the field names of a model and of every model its fields hold."""
    names: set[str] = set()
    for name, field in model.model_fields.items():
        names.add(field.alias or name)
        for inner in _models_in(field.annotation):
            names |= _field_names(inner)
    return frozenset(names)


def _models_in(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - any annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


_BODIES: tuple[type[BaseModel], ...] = (
    schemas.ChatRequest,
    schemas.CompletionRequest,
    response_schemas.ResponsesRequest,
    tokenization.TokenizeRequest,
    tokenization.DetokenizeRequest,
)
FIELD_NAMES = frozenset().union(*map(_field_names, _BODIES))
