"""Dialogues with tools: a call, a call and its result, or a question that needs none."""

from __future__ import annotations

import random
from dataclasses import dataclass

from engine.tinychat import words
from engine.tinychat.dialogue import Dialogue, Message, Tool, ToolCall, turns
from engine.tinychat.grammar import capitalized
from engine.tinychat.part import Part
from engine.tinychat.skills.exchange import pick
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
            "[weather in|how is the weather in|the weather of|forecast for] {city}",
            "[does it rain|is it sunny|is it cold|how warm is it] in {city}[| today| now]",
            "[can you look up|please get|check|tell me] the weather [in|of|for] {city}",
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
            "[time in|tell me the time in|the time in|local time of|clock in] {city}",
            "[can you look up|please get|check|what is] the [local |current |]time [in|of] {city}",
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
            "[timer|start a timer|new timer|please set a timer]: {minutes} minutes",
            "[set|start|make|I need] a [timer for {minutes} minutes|{minutes} minute timer]",
            "[remind me|ring|beep] in {minutes} minutes",
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
            "[use|call|take] [the|your] [tool|function] to add {a} and {b}",
            "[please |can you |]add {a} and {b} [by tool|with a tool|by calling your tool]",
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
            "[tell|write to|write|send to|text] {to}: '{text}'",
            "[please |can you |]send [a message to {to}|{to} a message]: '{text}'",
            "[let {to} know|say to {to}]: '{text}'",
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
        (
            "find [the |a |]user [|named |called ]{name}",
            "[look up|search for|search|find] [|the user ]{name}",
            "[please find|can you find|where is|get me] the user {name}",
            "is there a user {name}",
        ),
        {"name": words.NAMES},
        ("id 17", "id 4", "id 88", "no such user"),
        "Result for {name}: {r}.",
    ),
    _ToolKind(
        Tool("get_price", "Get the price of a thing.", {"item": "string"}),
        (
            "[look up|get|check] the price of a {item}",
            "how much [is|costs] a {item} today",
            "[what does a {item} cost|what is the price of a {item}|price of a {item}]",
            "[please |can you |][find|find out|look up] what a {item} costs",
            "for how much is a {item} sold",
        ),
        {"item": words.THINGS},
        ("12 euros", "45 euros", "99 euros", "7 euros"),
        "A {item} costs {r}.",
    ),
    _ToolKind(
        Tool("turn_on", "Turn a device on.", {"device": "string"}),
        (
            "[please |can you |]turn [on the {device}|the {device} on]",
            "[please |can you |][switch on|start|power up] the {device}",
            "[the {device} should be on|put the {device} on|{device} on]",
            "I want the {device} running",
        ),
        {"device": words.THINGS},
        ("ok", "done", "on"),
        "The {device} is on.",
    ),
)


def _filled(text: str, arguments: dict[str, str | int]) -> str:
    for name, value in arguments.items():
        text = text.replace("{" + name + "}", str(value))
    return text


# How callers may call a parameter or a tool; the last one of each is unfamiliar.
_PARAMETERS = {
    "city": ("city", "location", "place", "town", "where", "area", "city_name"),
    "minutes": ("minutes", "duration", "length", "mins", "time", "duration_minutes"),
    "a": ("a", "x", "first", "left", "n1", "augend"),
    "b": ("b", "y", "second", "right", "n2", "addend"),
    "to": ("to", "recipient", "person", "who", "receiver", "contact"),
    "text": ("text", "message", "body", "content", "words", "note"),
    "name": ("name", "user", "user_name", "query", "who", "person_name"),
    "item": ("item", "product", "thing", "article", "what", "goods"),
    "device": ("device", "machine", "target", "thing", "object", "appliance"),
}
_NAMES = {
    "get_weather": ("get_weather", "weather", "fetch_weather", "weather_in", "lookup_forecast"),
    "get_time": ("get_time", "time_in", "local_time", "clock", "current_time_of"),
    "set_timer": ("set_timer", "timer", "start_timer", "new_timer", "begin_countdown"),
    "add": ("add", "sum", "plus", "add_numbers", "calculate_total"),
    "send_message": ("send_message", "send", "message", "write_to", "deliver_note"),
    "find_user": ("find_user", "search_user", "user_lookup", "find", "get_person"),
    "get_price": ("get_price", "price", "price_of", "lookup_price", "quote_cost"),
    "turn_on": ("turn_on", "switch_on", "start", "power_on", "activate_device"),
}


def _called(names: tuple[str, ...], rng: random.Random, part: Part) -> str:
    if part is Part.UNFAMILIAR:
        return names[-1]
    if rng.random() < 0.25:  # a name that nobody has seen: to be copied from the tool's line
        return f"{rng.choice(names[:-1])}_{words.invented(rng)}"
    return rng.choice(names[:-1])


@dataclass(frozen=True)
class _Offered:
    """A kind of tool under the names that this caller gave it."""

    kind: _ToolKind
    tool: Tool
    parameters: dict[str, str]  # our name of a parameter to the caller's

    def call(self, arguments: dict[str, str | int]) -> ToolCall:
        named = {self.parameters[name]: value for name, value in arguments.items()}
        return ToolCall(self.tool.name, named)


def _offered(kind: _ToolKind, rng: random.Random, part: Part) -> _Offered:
    ours = kind.tool.parameters
    renamed = rng.random() < 0.6 or part is Part.UNFAMILIAR
    parameters = {name: _called(_PARAMETERS[name], rng, part) if renamed else name for name in ours}
    name = _called(_NAMES[kind.tool.name], rng, part) if renamed else kind.tool.name
    types = {parameters[name]: kind_of for name, kind_of in ours.items()}
    return _Offered(kind, Tool(name, kind.tool.description, types), parameters)


def tool_use(rng: random.Random, part: Part) -> Dialogue:
    """Return a dialogue in which tools are offered and, mostly, one of them is called."""
    offered = [_offered(kind, rng, part) for kind in rng.sample(_TOOLS, rng.randint(1, 4))]
    tools = tuple(one.tool for one in offered)
    system = (Message("system", rng.choice(NEUTRAL)),) if rng.random() < 0.4 else ()
    if rng.random() < 0.2:
        last = exchange(rng, part=part)
        return Dialogue("tools", (*system, *turns([last])), last.accepted, tools)
    chosen = rng.choice(offered)
    kind = chosen.kind
    arguments = {name: rng.choice(values) for name, values in kind.values.items()}
    text = capitalized(_filled(pick(rng, kind.questions, part), arguments))
    question = Message("user", text + rng.choice(("", ".", "?")))
    call = chosen.call(arguments)
    asked = (*system, question, Message("assistant", "", (call,)))
    if rng.random() < 0.6:
        return Dialogue("tools", asked, (call.text(),), tools)
    result = rng.choice(kind.results) if kind.results else str(sum(map(int, arguments.values())))
    answer = _filled(kind.answer, arguments).replace("{r}", result)
    messages = (*asked, Message("tool", result), Message("assistant", answer))
    return Dialogue("tools", messages, (answer,), tools)
