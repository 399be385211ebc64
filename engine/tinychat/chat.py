"""Dialogues as text: the special tokens, the training form, and the same as a chat template.

    <|begin|><|system|>...<|end|><|user|>...<|end|><|assistant|>...<|end|>

A role token, the text, `<|end|>`. Tools stand at the end of the system message, one a line. A call
is `<tool_call>{"name": ..., "arguments": ...}</tool_call>` in the assistant's message, its result a
message of the role `tool`. `segments` and `CHAT_TEMPLATE` say the same twice; a test compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.tinychat.dialogue import Dialogue, Message, Tool

PAD = "<|pad|>"
BEGIN = "<|begin|>"
END = "<|end|>"
ROLES = {role: f"<|{role}|>" for role in ("system", "user", "assistant", "tool")}
SPECIAL_TOKENS = (PAD, BEGIN, END, *ROLES.values())
CALL, CALL_END = "<tool_call>", "</tool_call>"  # ordinary text to a decoder: not skipped

TOOLS_HEADING = "Tools:"

CHAT_TEMPLATE = """\
{%- macro text(content) -%}
{%- if content is string %}{{ content }}{%- elif content %}
{%- for part in content %}{{ part.text if part.text is defined else '' }}{%- endfor %}
{%- endif %}
{%- endmacro -%}
{%- macro tool_lines() -%}
Tools:
{%- for tool in tools %}{%- set f = tool.function if tool.function is defined else tool %}
{{- '\\n' + f.name + '(' }}
{%- if f.parameters is defined and f.parameters and f.parameters.properties is defined %}
{%- for name, schema in f.parameters.properties.items() %}
{{- name }}: {{ schema.type if schema.type is string else 'any' }}{{ ', ' if not loop.last }}
{%- endfor %}
{%- endif %}
{{- '): ' + (f.description if f.description is defined and f.description else '') }}
{%- endfor %}
{%- endmacro -%}
{{- '<|begin|>' }}
{%- if tools and (not messages or messages[0].role not in ['system', 'developer']) %}
{{- '<|system|>' + tool_lines() + '<|end|>' }}
{%- endif %}
{%- for message in messages %}
{%- set role = 'system' if message.role == 'developer' else message.role %}
{{- '<|' + role + '|>' + text(message.content) }}
{%- if role == 'system' and loop.first and tools %}
{{- '\\n\\n' + tool_lines() }}
{%- endif %}
{%- if role == 'assistant' and message.tool_calls %}
{%- for call in message.tool_calls %}
{%- set f = call.function if call.function is defined else call %}
{{- '<tool_call>{"name": ' + (f.name | tojson) + ', "arguments": ' }}
{{- (f.arguments if f.arguments is string else f.arguments | tojson) + '}</tool_call>' }}
{%- endfor %}
{%- endif %}
{{- '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}
"""


@dataclass(frozen=True)
class Segment:
    """A piece of a rendered dialogue; the model is trained to write it, or only reads it."""

    text: str
    trained: bool


def tool_line(tool: Tool) -> str:
    """Return a tool as the model reads it."""
    parameters = ", ".join(f"{name}: {kind}" for name, kind in tool.parameters.items())
    return f"{tool.name}({parameters}): {tool.description}"


def _tools_text(tools: Sequence[Tool]) -> str:
    return "\n".join([TOOLS_HEADING, *map(tool_line, tools)])


def body(message: Message) -> str:
    """Return the text of `message` between its role token and its end token."""
    calls = "".join(f"{CALL}{call.text()}{CALL_END}" for call in message.tool_calls)
    return message.content + calls


def segments(dialogue: Dialogue) -> list[Segment]:
    """Render `dialogue`; the assistant's texts with their end tokens are the trained segments."""
    messages = list(dialogue.messages)
    pieces = [Segment(BEGIN, trained=False)]
    if dialogue.tools and messages[0].role != "system":
        messages.insert(0, Message("system", _tools_text(dialogue.tools)))
    elif dialogue.tools:
        joined = f"{messages[0].content}\n\n{_tools_text(dialogue.tools)}"
        messages[0] = Message("system", joined)
    for message in messages:
        pieces.append(Segment(ROLES[message.role], trained=False))
        pieces.append(Segment(body(message) + END, trained=message.role == "assistant"))
    return pieces


def prompt(dialogue: Dialogue) -> str:
    """Return the text up to the last answer: what the model is asked to continue."""
    return "".join(piece.text for piece in segments(dialogue)[:-1])
