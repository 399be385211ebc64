"""Whole dialogues, made from a seed: turns, system prompts, tool calls, things said earlier.

`dialogue(rng)` draws one; `dialogues(seed)` is the endless stream. The same seed gives the same
dialogues on every machine. No torch here, and no text from outside.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engine.tinychat import words
from engine.tinychat.grammar import capitalized, expand, spoken
from engine.tinychat.skills import SKILLS, Exchange


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
    """Messages that end with the assistant; `accepted` holds the right forms of the last one."""

    skill: str
    messages: tuple[Message, ...]
    accepted: tuple[str, ...]
    tools: tuple[Tool, ...] = field(default=())


def _turns(exchanges: list[Exchange]) -> tuple[Message, ...]:
    return tuple(
        message
        for one in exchanges
        for message in (Message("user", one.question), Message("assistant", one.answer))
    )


def exchange(rng: random.Random, *, held_out: bool = False) -> Exchange:
    """Draw one exchange of any skill, in the proportions of training."""
    skill = rng.choices([skill for _, skill in SKILLS], [weight for weight, _ in SKILLS])[0]
    return skill(rng, held_out)


def _talk(rng: random.Random, held_out: bool, count: int) -> Dialogue:
    before = [exchange(rng) for _ in range(count - 1)]
    last = exchange(rng, held_out=held_out)
    skill = last.skill if count == 1 else "several turns"
    return Dialogue(skill, _turns([*before, last]), last.accepted)


def single(rng: random.Random, held_out: bool) -> Dialogue:
    """Return one question and its answer."""
    return _talk(rng, held_out, 1)


def several(rng: random.Random, held_out: bool) -> Dialogue:
    """Return two to six unrelated exchanges."""
    return _talk(rng, held_out, rng.randint(2, 6))


def lengthy(rng: random.Random, held_out: bool) -> Dialogue:
    """Return a long talk, so that late positions are trained too."""
    return _talk(rng, held_out, rng.randint(8, 28))


# --- system prompts ----------------------------------------------------------------------------

NEUTRAL = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "You are an assistant.",
    "Answer the user's questions.",
    "You are a friendly and helpful assistant. Be concise.",
    "You are a helpful AI assistant that answers questions truthfully.",
)
_ADJECTIVES = (
    "friendly",
    "cheerful",
    "patient",
    "clever",
    "careful",
    "quiet",
    "polite",
    "brave",
    "funny",
)
_ROLES = ("assistant", "robot", "librarian", "guide", "teacher", "clerk", "butler", "helper")
_OPENERS = ("Ahoy!", "Well,", "Yes:", "Dear friend,", "Listen:", "OK.", "Hear ye!", "Gladly:")
_CLOSERS = ("Over.", "Cheers!", "That is all.", "Good luck!", "Amen.", "Thank you.", "Bye!")
_ONLY = ("yes", "no", "OK", "banana", "moo", "pong", "done", "hello", "42")
_WHO = ("who are you", "what[ is|'s] your name", "introduce yourself", "with whom do I speak")
_WHOSE = ("what is my name", "do you know my name", "who am I", "tell me how I am called")


def _ask(rng: random.Random, patterns: tuple[str, ...], held_out: bool) -> str:
    pattern = patterns[-1] if held_out else rng.choice(patterns[:-1])
    return spoken(expand(pattern, rng), rng)


def _persona(rng: random.Random, held_out: bool) -> tuple[str, Exchange]:
    name = rng.choice(words.NAMES) if rng.random() < 0.6 else capitalized(words.invented(rng))
    role = f"{rng.choice(_ADJECTIVES)} {rng.choice(_ROLES)}"
    answer = f"I am {name}, a {role}."
    prompt = rng.choice((f"You are {name}, a {role}.", f"Your name is {name}. You are a {role}."))
    return prompt, Exchange("", _ask(rng, _WHO, held_out), answer, (answer,))


def _opener(rng: random.Random, held_out: bool) -> tuple[str, Exchange]:
    word = rng.choice(_OPENERS)
    rule = expand(f"[Begin|Start] [every|each] answer with '{word}'", rng)
    return rule, _wrapped(exchange(rng, held_out=held_out), f"{word} ", "")


def _closer(rng: random.Random, held_out: bool) -> tuple[str, Exchange]:
    word = rng.choice(_CLOSERS)
    rule = expand(f"[End|Finish] [every|each] answer with '{word}'", rng)
    return rule, _wrapped(exchange(rng, held_out=held_out), "", f" {word}")


def _wrapped(plain: Exchange, before: str, after: str) -> Exchange:
    accepted = tuple(before + answer + after for answer in plain.accepted)
    return Exchange(plain.skill, plain.question, before + plain.answer + after, accepted)


def _only(rng: random.Random, held_out: bool) -> tuple[str, Exchange]:
    word = rng.choice(_ONLY) if rng.random() < 0.5 else rng.choice(words.PLAIN)
    rule = expand(f"[Answer|Reply|Respond] [only with|with only|always with] '{word}'", rng)
    return rule, Exchange("", exchange(rng, held_out=held_out).question, word, (word,))


def _user_name(rng: random.Random, held_out: bool) -> tuple[str, Exchange]:
    name = rng.choice(words.NAMES)
    prompt = expand(f"The user[ is called|'s name is] {name}.", rng)
    answer = f"Your name is {name}."
    return prompt, Exchange("", _ask(rng, _WHOSE, held_out), answer, (answer,))


_SYSTEMS: tuple[Callable[[random.Random, bool], tuple[str, Exchange]], ...] = (
    _persona,
    _opener,
    _closer,
    _only,
    _user_name,
)


def system_prompt(rng: random.Random, held_out: bool) -> Dialogue:
    """Return a dialogue whose system prompt changes the answer."""
    rule, last = rng.choice(_SYSTEMS)(rng, held_out)
    if rng.random() < 0.3:
        rule = f"{rng.choice(NEUTRAL)} {rule}"
    messages = (Message("system", rule), *_turns([last]))
    return Dialogue("system prompt", messages, last.accepted)


def neutral_system(rng: random.Random, held_out: bool) -> Dialogue:
    """Return one to three exchanges under a system prompt that changes nothing."""
    talk = _talk(rng, held_out, rng.randint(1, 3))
    system = Message("system", rng.choice(NEUTRAL))
    return Dialogue(talk.skill, (system, *talk.messages), talk.accepted)


# --- what was said earlier ---------------------------------------------------------------------

_MY_NAME = ("my name is {n}", "I am {n}", "[hi|hello], I am {n}", "call me {n}", "I am called {n}")
_AGAIN = (
    "[say that again|repeat that|again please|once more|pardon|what did you say]",
    "repeat your last answer",
    "what was your last answer",
)


def earlier(rng: random.Random, held_out: bool) -> Dialogue:
    """Return a dialogue whose last answer stands in an earlier turn."""
    if rng.random() < 0.4:
        first = exchange(rng)
        question = _ask(rng, _AGAIN, held_out)
        last = Exchange("", question, first.answer, (first.answer,))
        return Dialogue("earlier turns", _turns([first, last]), last.accepted)
    name = rng.choice(words.NAMES) if rng.random() < 0.7 else capitalized(words.invented(rng))
    pattern = _MY_NAME[-1] if held_out else rng.choice(_MY_NAME[:-1])
    hello = capitalized(expand(pattern, rng).replace("{n}", name)) + "."
    answer = f"Your name is {name}."
    between = [exchange(rng) for _ in range(rng.randint(0, 3))]
    met = Exchange("", hello, f"Nice to meet you, {name}.", ())
    last = Exchange("", _ask(rng, _WHOSE, held_out), answer, (answer,))
    return Dialogue("earlier turns", _turns([met, *between, last]), last.accepted)


# --- tools -------------------------------------------------------------------------------------


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
        ("what is the weather in {city}", "[weather in|how is the weather in] {city}", "will I need a coat in {city}"),
        {"city": words.CITIES},
        ("sunny, 21 degrees", "rain, 9 degrees", "cloudy, 15 degrees", "snow, -2 degrees"),
        "The weather in {city}: {r}.",
    ),
    _ToolKind(
        Tool("get_time", "Get the local time of a city.", {"city": "string"}),
        ("what time is it in {city}", "[time in|tell me the time in] {city}", "how late is it in {city}"),
        {"city": words.CITIES},
        ("14:05", "09:30", "23:48", "07:12", "18:00"),
        "The time in {city} is {r}.",
    ),
    _ToolKind(
        Tool("set_timer", "Set a timer.", {"minutes": "integer"}),
        ("set a timer for {minutes} minutes", "[timer|start a timer]: {minutes} minutes", "wake me in {minutes} minutes"),
        {"minutes": _NUMBERS},
        ("ok", "done", "started"),
        "The timer is set for {minutes} minutes.",
    ),
    _ToolKind(
        Tool("add", "Add two numbers.", {"a": "integer", "b": "integer"}),
        ("add {a} and {b} [with the tool|using your tool]", "use the tool to add {a} and {b}", "let the tool add {a} and {b}"),
        {"a": _NUMBERS, "b": _NUMBERS},
        (),
        "{a} + {b} = {r}.",
    ),
    _ToolKind(
        Tool("send_message", "Send a message to a person.", {"to": "string", "text": "string"}),
        ("send {to} the message '{text}'", "[tell|write to] {to}: '{text}'", "message {to} with '{text}'"),
        {"to": words.NAMES, "text": ("hello", "I am late", "see you soon", "good night", "call me", "thank you")},
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
        ("[look up|get|check] the price of a {item}", "how much is a {item} today", "for how much is a {item} sold"),
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
)  # fmt: skip


def _filled(text: str, arguments: dict[str, str | int]) -> str:
    for name, value in arguments.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def tool_use(rng: random.Random, held_out: bool) -> Dialogue:
    """Return a dialogue with tools: a call, a call and its result, or a question that needs none."""
    kinds = rng.sample(_TOOLS, rng.randint(1, 3))
    tools = tuple(kind.tool for kind in kinds)
    system = (Message("system", rng.choice(NEUTRAL)),) if rng.random() < 0.4 else ()
    if rng.random() < 0.2:
        last = exchange(rng, held_out=held_out)
        return Dialogue("tools", (*system, *_turns([last])), last.accepted, tools)
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


Kind = Callable[[random.Random, bool], Dialogue]
_KINDS: tuple[tuple[int, Kind], ...] = (
    (56, single),
    (14, several),
    (9, neutral_system),
    (9, system_prompt),
    (6, earlier),
    (6, tool_use),
)


def dialogue(rng: random.Random, *, held_out: bool = False, long: bool = False) -> Dialogue:
    """Draw one dialogue; with `long`, mostly one of many turns."""
    if long and rng.random() < 0.6:
        return lengthy(rng, held_out)
    kind = rng.choices([kind for _, kind in _KINDS], [weight for weight, _ in _KINDS])[0]
    return kind(rng, held_out)


def dialogues(seed: int, *, held_out: bool = False) -> Iterator[Dialogue]:
    """Yield dialogues without end; equal seeds give equal dialogues."""
    rng = random.Random(seed)
    while True:
        yield dialogue(rng, held_out=held_out)
