"""A dialogue: messages, the tools offered, and what would be right as its last message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.tinychat.skills import Exchange


@dataclass(frozen=True)
class ToolCall:
    """A call the assistant makes; `arguments` is a JSON object."""

    name: str
    arguments: dict[str, str | int]

    def text(self) -> str:
        """Return the call as the model writes it."""
        return json.dumps({"name": self.name, "arguments": self.arguments}, ensure_ascii=False)


@dataclass(frozen=True)
class Tool:
    """A function the caller offers; `parameters` maps a name to its JSON type."""

    name: str
    description: str
    parameters: dict[str, str]

    def schema(self) -> dict[str, object]:
        """Return the tool as the OpenAI API writes it."""
        properties = {name: {"type": kind} for name, kind in self.parameters.items()}
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class Message:
    """One message: role is system, user, assistant or tool."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class Dialogue:
    """Messages that end with the assistant; `accepted` holds the right forms of the last one.

    `evidence` is the sentence on which the last answer rests, where its distance matters.
    """

    skill: str
    messages: tuple[Message, ...]
    accepted: tuple[str, ...]
    tools: tuple[Tool, ...] = field(default=())
    evidence: str = ""


def turns(exchanges: Sequence[Exchange]) -> tuple[Message, ...]:
    """Return exchanges as messages, user and assistant in turn."""
    return tuple(
        message
        for one in exchanges
        for message in (Message("user", one.question), Message("assistant", one.answer))
    )
