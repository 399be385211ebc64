"""The model's chat template: a conversation in, the prompt's text out.

Templates come with the model, which is measured, but they are run over what a stranger wrote: so
in Jinja's immutable sandbox, over plain JSON values only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from server.openai.errors import InvalidRequest
from server.openai.model_files import ModelFiles, UnusableModel

Json = Any


class _Generation(Extension):
    """`{% generation %}`: marks for training what the assistant says; here it only prints it."""

    tags = {"generation"}  # noqa: RUF012 - as the base class declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Keep the statements, drop the marks."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Refused(Exception):
    """The template called `raise_exception`."""


def _refuse(_: str) -> str:
    raise _Refused


def _to_json(value: Json, ensure_ascii: bool = False, **options: Any) -> str:  # noqa: ANN401, FBT001, FBT002, RUF100 - as templates call it
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


class ChatTemplate:
    """One compiled template and the special tokens it may name."""

    def __init__(
        self, source: str, special_tokens: dict[str, str], clock: Callable[[], float]
    ) -> None:
        # Prompts are no HTML: escaping would change what the model reads.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            extensions=[_Generation, loopcontrols],
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.fromtimestamp(
            clock(), UTC
        ).strftime(form)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise UnusableModel("the chat template is not a template") from error
        self.source = source
        self._special_tokens = special_tokens

    @property
    def knows_tools(self) -> bool:
        """Whether the template itself presents tools to the model."""
        return "tools" in self.source

    @property
    def knows_developer(self) -> bool:
        """Whether the template has a place for developer messages; else they are system ones."""
        return "developer" in self.source

    def render(self, messages: list[dict[str, Json]], tools: list[dict[str, Json]] | None) -> str:
        """Write the prompt up to where the assistant speaks.

        Raises:
            InvalidRequest: the template refuses the conversation.
        """
        try:
            return self._template.render(
                self._special_tokens, messages=messages, tools=tools, add_generation_prompt=True
            )
        except Exception:  # noqa: BLE001 - see below
            # A decision: a template may fail in any way over a conversation its author did not
            # think of, and its exception may quote the conversation. All are one refusal.
            raise InvalidRequest(
                "invalid_conversation",
                "The model's chat template refuses this sequence of messages.",
                "messages",
            ) from None


def load(files: ModelFiles, clock: Callable[[], float]) -> ChatTemplate | None:
    """Find the template of a model: its own file, or in the tokenizer's configuration.

    Of several named templates the one called `tool_use` is taken, else `default`. None if the
    model has no template: it completes text and does not chat.
    """
    path = files.folder / "chat_template.jinja"
    source = files.tokenizer.get("chat_template")
    if path.exists():
        source = path.read_text(encoding="utf-8")
    if isinstance(source, list):
        named = {entry.get("name"): entry.get("template") for entry in source}
        source = named.get("tool_use", named.get("default"))
    if not isinstance(source, str):
        return None
    return ChatTemplate(source, files.special_tokens(), clock)
