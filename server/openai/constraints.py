"""What tools and response_format of a chat demand of its answer."""

from __future__ import annotations

from collections.abc import Sequence

from server.openai import grammar
from server.openai.errors import InvalidRequest
from server.openai.grammar import Constraint
from server.openai.model import LoadedModel
from server.openai.schemas import ChatRequest, NamedChoice, PlainFormat, SchemaFormat, Tool
from server.openai.tokenizer import Tokenizer


def offered_tools(request: ChatRequest) -> list[Tool]:
    """The tools the model may call in this answer; none if the choice is none.

    Raises:
        InvalidRequest: names given twice, a choice without tools or of no tool, arguments that
            are no object.
    """
    tools, choice = request.tools or [], request.tool_choice
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise InvalidRequest("invalid_value", "Two tools have one name.", "tools")
    for number, tool in enumerate(tools):
        if (tool.function.parameters or {}).get("type", "object") != "object":
            param = f"tools[{number}].function.parameters"
            raise InvalidRequest("invalid_json_schema", f"{param} must be of type object.", param)
    if not tools and (choice == "required" or isinstance(choice, NamedChoice)):
        raise InvalidRequest("invalid_value", "tool_choice needs tools.", "tool_choice")
    if isinstance(choice, NamedChoice) and choice.function.name not in names:
        raise InvalidRequest(
            "invalid_value", "tool_choice names a function that is not in tools.", "tool_choice"
        )
    return [] if choice == "none" else tools


def constraint_of(
    model: LoadedModel, request: ChatRequest, offered: Sequence[Tool]
) -> Constraint | None:
    """What response_format and tools demand of the answer.

    Raises:
        InvalidRequest: code `invalid_json_schema`.
    """
    content = _demanded_content(request)
    if content is not None:
        grammar.check_schema(
            model.tokenizer,
            content[0],
            strict=content[1],
            param="response_format.json_schema.schema",
        )
    if not offered:
        if content is None:
            return None
        return grammar.schema_constraint(model.tokenizer, content[0], strict=content[1])
    choice = request.tool_choice
    _check_parameters(model.tokenizer, offered)
    functions = [tool.function for tool in offered]
    if isinstance(choice, NamedChoice):
        functions = [f for f in functions if f.name == choice.function.name]
    return grammar.tool_constraint(
        model.tokenizer,
        model.tool_format,
        functions,
        required=choice == "required" or isinstance(choice, NamedChoice),
        parallel=request.parallel_tool_calls is not False,
        content=content,
    )


def _demanded_content(request: ChatRequest) -> tuple[grammar.Schema, bool] | None:
    """The schema that content must follow and whether strictly; None if any text will do."""
    match request.response_format:
        case PlainFormat(type="json_object"):
            return grammar.ANY_OBJECT, False
        case SchemaFormat(json_schema=asked):
            return asked.schema_ or grammar.ANY_OBJECT, bool(asked.strict)
        case _:
            return None


def _check_parameters(tokenizer: Tokenizer, tools: Sequence[Tool]) -> None:
    for number, tool in enumerate(tools):
        grammar.check_schema(
            tokenizer,
            grammar.arguments_schema(tool.function),
            strict=bool(tool.function.strict),
            param=f"tools[{number}].function.parameters",
        )
