"""Dialogues with tools: a call, a call and its result, or a question that needs none."""

from __future__ import annotations

import random
from dataclasses import dataclass

from engine.tinychat import words
from engine.tinychat.dialogue import Dialogue, Message, Tool, ToolCall, turns
from engine.tinychat.grammar import capitalized, expand
from engine.tinychat.system_prompts import NEUTRAL
from engine.tinychat.talks import exchange


@dataclass(frozen=True)
class _ToolKind:
    tool: Tool
    questions: tuple[str, ...]  # the last one is held out
    values: dict[str, tuple[str | int, ...]]
    results: tuple[str, ...]
    answer: str  # {r} is the result


_NUMBERS: tuple[str | int, ...] = tuple(range(1, 100))
_TOOLS = (
    _ToolKind(
        Tool("get_weather", "Get the weather of a city.", {"city": "string"}),
        (
            "what is the weather in {city}",
            "[weather in|how is the weather in] {city}",
            "will I need a coat in {city}",
        ),
        {"city": words.CITIES},
        ("sunny, 21 degrees", "rain, 9 degrees", "cloudy, 15 degrees", "snow, -2 degrees"),
        "The weather in {city}: {r}.",
    ),
    _ToolKind(
        Tool("get_time", "Get the local time of a city.", {"city": "string"}),
        (
            "what time is it in {city}",
            "[time in|tell me the time in] {city}",
            "how late is it in {city}",
        ),
        {"city": words.CITIES},
        ("14:05", "09:30", "23:48", "07:12", "18:00"),
        "The time in {city} is {r}.",
    ),
    _ToolKind(
        Tool("set_timer", "Set a timer.", {"minutes": "integer"}),
        (
            "set a timer for {minutes} minutes",
            "[timer|start a timer]: {minutes} minutes",
            "wake me in {minutes} minutes",
        ),
        {"minutes": _NUMBERS},
        ("ok", "done", "started"),
        "The timer is set for {minutes} minutes.",
    ),
    _ToolKind(
        Tool("add", "Add two numbers.", {"a": "integer", "b": "integer"}),
        (
            "add {a} and {b} [with the tool|using your tool]",
            "use the tool to add {a} and {b}",
            "let the tool add {a} and {b}",
        ),
        {"a": _NUMBERS, "b": _NUMBERS},
        (),
        "{a} + {b} = {r}.",
    ),
    _ToolKind(
        Tool("send_message", "Send a message to a person.", {"to": "string", "text": "string"}),
        (
            "send {to} the message '{text}'",
            "[tell|write to] {to}: '{text}'",
            "message {to} with '{text}'",
        ),
        {
            "to": words.NAMES,
            "text": ("hello", "I am late", "see you soon", "good night", "call me", "thank you"),
        },
        ("sent", "ok", "delivered"),
        "The message to {to} is sent.",
    ),
    _ToolKind(
        Tool("find_user", "Find a user by name.", {"name": "string"}),
        ("find the user {name}", "[look up|search for] {name}", "is there a user {name}"),
        {"name": words.NAMES},
        ("id 17", "id 4", "id 88", "no such user"),
        "Result for {name}: {r}.",
    ),
    _ToolKind(
        Tool("get_price", "Get the price of a thing.", {"item": "string"}),
        (
            "[look up|get|check] the price of a {item}",
            "how much is a {item} today",
            "for how much is a {item} sold",
        ),
        {"item": words.THINGS},
        ("12 euros", "45 euros", "99 euros", "7 euros"),
        "A {item} costs {r}.",
    ),
    _ToolKind(
        Tool("turn_on", "Turn a device on.", {"device": "string"}),
        ("turn on the {device}", "[switch on|start] the {device}", "I want the {device} running"),
        {"device": words.THINGS},
        ("ok", "done", "on"),
        "The {device} is on.",
    ),
)


def _filled(text: str, arguments: dict[str, str | int]) -> str:
    for name, value in arguments.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def tool_use(rng: random.Random, held_out: bool) -> Dialogue:
    """Return a dialogue in which tools are offered and, mostly, one of them is called."""
    kinds = rng.sample(_TOOLS, rng.randint(1, 3))
    tools = tuple(kind.tool for kind in kinds)
    system = (Message("system", rng.choice(NEUTRAL)),) if rng.random() < 0.4 else ()
    if rng.random() < 0.2:
        last = exchange(rng, held_out=held_out)
        return Dialogue("tools", (*system, *turns([last])), last.accepted, tools)
    kind = rng.choice(kinds)
    arguments = {name: rng.choice(values) for name, values in kind.values.items()}
    pattern = kind.questions[-1] if held_out else rng.choice(kind.questions[:-1])
    text = capitalized(_filled(expand(pattern, rng), arguments))
    question = Message("user", text + rng.choice(("", ".", "?")))
    call = ToolCall(kind.tool.name, arguments)
    asked = (*system, question, Message("assistant", "", (call,)))
    if rng.random() < 0.5:
        return Dialogue("tools", asked, (call.text(),), tools)
    result = rng.choice(kind.results) if kind.results else str(sum(map(int, arguments.values())))
    answer = _filled(kind.answer, arguments).replace("{r}", result)
    messages = (*asked, Message("tool", result), Message("assistant", answer))
    return Dialogue("tools", messages, (answer,), tools)
