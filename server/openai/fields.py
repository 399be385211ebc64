"""The kinds of fields that request bodies are made of: strict, bounded, and quiet about input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field
from pydantic_core import PydanticCustomError

INT64 = 2**63


def _integral(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Read 3.0 as 3: JSON has one kind of number, and a re-encoded request must mean the same."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_SHAPES: Mapping[type, str] = {str: "=text", list: "=list", dict: "=object"}


def shape(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Name the branch of a union by the JSON type of the value, so that one error is reported."""
    return _SHAPES.get(type(value))


def union(choose: Callable[[Any], str | None], words: str) -> Discriminator:
    """A union whose branch `choose` names; `words` say what is accepted.

    The names begin with "=", so that no location in an error can take them for fields.
    """
    return Discriminator(choose, custom_error_type="wrong_branch", custom_error_message=words)


def unsupported(what: str) -> PydanticCustomError:
    """The error for a value that OpenAI defines and that is not served; `what` is our text."""
    return PydanticCustomError("unsupported_value", what)


Int = Annotated[int, BeforeValidator(_integral)]
Probability = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
NonEmpty = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """A body or part of one: strict types, unknown members ignored."""

    model_config = ConfigDict(
        strict=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True
    )
