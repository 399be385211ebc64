"""What an answer must look like, as grammar masks.

llguidance compiles in bounded time (about a millisecond), so that one client's schema cannot hold
up anything but its own request. Its messages quote the schema; none of them leaves this file.

White space is fixed to at most one blank after a comma or colon: every such text is JSON, and a
weak model cannot fill its answer with blanks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher

from server.openai.errors import EngineFailure, InvalidRequest
from server.openai.schemas import Function
from server.openai.tokenizer import Tokenizer
from server.openai.tool_format import ToolFormat

Schema = dict[str, Any]

ANY_OBJECT: Schema = {"type": "object"}

# Keywords that bring further properties into an object.
_OPENING = frozenset({"$ref", "allOf", "anyOf", "oneOf", "patternProperties"})


class Matcher:
    """The state of one constrained sequence."""

    def __init__(self, inner: LLMatcher) -> None:
        self._inner = inner

    def consume(self, token_id: int) -> None:
        """Go on by one sampled token.

        Raises:
            EngineFailure: the token was not allowed, or the grammar grew beyond its limits.
        """
        if not self._inner.consume_token(token_id):
            raise EngineFailure("grammar_failed", "The grammar of the answer could not be kept.")

    def mask(self) -> bytes:
        """The ids allowed next: one bit an id, lowest bit first, padded to a multiple of 32 bits.

        Raises:
            EngineFailure: the grammar grew beyond its limits.
        """
        mask = bytes(self._inner.compute_bitmask())
        if self._inner.is_error():
            raise EngineFailure("grammar_failed", "The grammar of the answer grew too complex.")
        return mask


@dataclass(frozen=True)
class Constraint:
    """A compiled grammar, for any number of sequences."""

    _first: LLMatcher

    def start(self) -> Matcher:
        """A matcher at the beginning of an answer."""
        return Matcher(self._first.deep_copy())


def schema_constraint(tokenizer: Tokenizer, schema: Schema, *, strict: bool) -> Constraint:
    """An answer that is one JSON value of `schema`, which was checked already."""
    return _compile(tokenizer, f"start: %json {_guided(schema, strict=strict)}")


def check_schema(tokenizer: Tokenizer, schema: Schema, *, strict: bool, param: str) -> None:
    """Compile a schema alone, to say which one is at fault.

    Keywords that cannot be enforced are refused if `strict`, and otherwise not enforced.

    Raises:
        InvalidRequest: code `invalid_json_schema`.
    """
    grammar = LLMatcher.grammar_from_lark(f"start: %json {_guided(schema, strict=strict)}")
    failed, _ = LLMatcher.validate_grammar_with_warnings(grammar, tokenizer.grammar)
    if failed:
        raise InvalidRequest(
            "invalid_json_schema",
            f"{param} is no JSON schema, or uses keywords that cannot be enforced.",
            param,
        )


def tool_constraint(
    tokenizer: Tokenizer,
    form: ToolFormat,
    functions: Sequence[Function],
    *,
    required: bool,
    parallel: bool,
    content: tuple[Schema, bool] | None,
) -> Constraint:
    """An answer that calls `functions`: always if `required`, else it may be content instead.

    Args:
        tokenizer: whose vocabulary the masks are over.
        form: the fixed texts of a call.
        functions: the functions that may be called, their schemas already checked.
        required: an answer without a call is not allowed.
        parallel: several calls are allowed.
        content: schema and strictness of what stands in place of a call; None for free text.
    """
    calls = _sequence(tokenizer, form, parallel=parallel)
    rules = [f"body: {' | '.join(f'call_{i}' for i in range(len(functions)))}"]
    for i, function in enumerate(functions):
        head = json.dumps(form.opening + function.name + form.middle)
        guided = _guided(arguments_schema(function), strict=bool(function.strict))
        rules += [
            f"call_{i}: {head} arguments_{i} {json.dumps(form.closing)}",
            f"arguments_{i}: %json {guided}",
        ]
    if required:
        rules.append(f"start: {calls}")
    elif content is not None:
        schema, strict = content
        rules += [f"start: content | {calls}", f"content: %json {_guided(schema, strict=strict)}"]
    else:
        rules += _free_text(tokenizer, form, calls)
    return _compile(tokenizer, "\n".join(rules))


def arguments_schema(function: Function) -> Schema:
    """The schema of a function's arguments: an object, and a closed one unless it says otherwise.

    Every value it admits follows the function's own schema; closing it keeps a weak model from
    inventing arguments.
    """
    if not function.parameters:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    schema: Schema = {"type": "object", **function.parameters}
    if "properties" in schema and schema.keys().isdisjoint(_OPENING):
        schema.setdefault("additionalProperties", False)
    return schema


def _guided(schema: Schema, *, strict: bool) -> str:
    options = {
        "whitespace_flexible": False,
        "item_separator": ", ?",
        "key_separator": ": ?",
        "lenient": not strict,
        "coerce_one_of": not strict,
    }
    return json.dumps({**schema, "x-guidance": options})


def _sequence(tokenizer: Tokenizer, form: ToolFormat, *, parallel: bool) -> str:
    begin, end = _literal(tokenizer, form.begin), _literal(tokenizer, form.end)
    if not parallel or form.between is None:
        return f"{begin} body {end}"
    return f"{begin} body ({_literal(tokenizer, form.between)} body)* {end}"


def _free_text(tokenizer: Tokenizer, form: ToolFormat, calls: str) -> list[str]:
    """Content, then calls if the format marks where they begin; else content or one call.

    Added tokens that are no special tokens (of reasoning, say) may stand in content; a grammar's
    texts match none of them by itself.
    """
    if not form.begin:
        return [f"start: TEXT | {calls}", r"TEXT: /([^{](.|\n)*)?/"]
    marks = set(re.findall(_added(tokenizer), "".join(form.texts())))
    free = [
        i for text, i in tokenizer.added.items() if text not in tokenizer.special.keys() | marks
    ]
    text = f"TEXT (({' | '.join(f'<[{i}]>' for i in free)}) TEXT)*" if free else "TEXT"
    if marks:
        return [f"start: text | text {calls}", f"text: {text}", r"TEXT: /(.|\n)*/"]
    # The mark is ordinary text: a lazy lexeme ends as soon as it is written.
    rest = calls.removeprefix(_literal(tokenizer, form.begin))
    return [
        f"start: TEXT | head {rest}",
        f"head[lazy]: /(.|\\n)*/ {json.dumps(form.begin)}",
        r"TEXT: /(.|\n)*/",
    ]


def _added(tokenizer: Tokenizer) -> str:
    """A regular expression for the texts that the tokenizer turns into tokens of their own."""
    texts = sorted(tokenizer.added, key=len, reverse=True)
    return "|".join(map(re.escape, texts)) or "(?!)"


def _literal(tokenizer: Tokenizer, text: str) -> str:
    """Write a fixed text for the grammar, naming added tokens in it by id."""
    pieces = re.split(f"({_added(tokenizer)})", text)
    written = (
        f"<[{tokenizer.added[piece]}]>" if piece in tokenizer.added else json.dumps(piece)
        for piece in pieces
        if piece
    )
    return " ".join(written)


def _compile(tokenizer: Tokenizer, lark: str) -> Constraint:
    matcher = LLMatcher(tokenizer.grammar, LLMatcher.grammar_from_lark(lark), log_level=0)
    if matcher.is_error():
        raise InvalidRequest(
            "invalid_json_schema", "The schemas of the request are too complex to be enforced."
        )
    return Constraint(matcher)
