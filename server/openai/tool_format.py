"""How models write a call of a tool, and how their text is read back.

    answer = content
           | content begin call *(between call) end
    call   = opening name middle arguments closing          arguments is one JSON object

The three ways of writing differ in the fixed texts only. A grammar (see `grammar`) makes the model
keep to them, so the reader below needs no tolerance and can pass arguments on as they are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True)
class ToolFormat:
    """The fixed texts around a call. Without `between` an answer holds one call at most."""

    begin: str
    between: str | None
    end: str
    opening: str = '{"name": "'
    middle: str = '", "arguments": '
    closing: str = "}"
    short_ids: bool = False

    @property
    def mark(self) -> str:
        """The text that tells a call from content."""
        return self.begin + self.opening

    @property
    def sign(self) -> str:
        """The shortest text after which an answer is a call and no longer content."""
        return self.begin.strip() or self.opening

    def texts(self) -> tuple[str, ...]:
        """Every fixed text of the format."""
        return self.begin, self.between or "", self.end


HERMES = ToolFormat("<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>")
COMPACT = ToolFormat("<tool_call>", "</tool_call><tool_call>", "</tool_call>")
MISTRAL = ToolFormat("[TOOL_CALLS][", ", ", "]", short_ids=True)  # its template wants 9 characters
LLAMA = ToolFormat("", None, "", middle='", "parameters": ')


def format_of(template: str) -> ToolFormat:
    """Tell from a chat template how its model writes calls; the Hermes way if it does not say."""
    if '<tool_call>{"name"' in template:
        return COMPACT
    if "<tool_call>" in template:
        return HERMES
    if "[TOOL_CALLS]" in template:
        return MISTRAL
    if '"parameters": ' in template and ("python_tag" in template or "ipython" in template):
        return LLAMA
    return HERMES


@dataclass(frozen=True)
class Content:
    """Text beside calls."""

    text: str


@dataclass(frozen=True)
class CallBegun:
    """A call of the function `name` begins; `index` counts the calls of the answer."""

    index: int
    name: str


@dataclass(frozen=True)
class Arguments:
    """The next part of the arguments of the call `index`."""

    index: int
    text: str


Part = Content | CallBegun | Arguments


class _State(Enum):
    CONTENT = auto()
    NAME = auto()
    ARGUMENTS = auto()
    BETWEEN = auto()


class ToolReader:
    """Reads an answer part by part. White space alone before a first call is not content."""

    def __init__(self, form: ToolFormat) -> None:
        self._form = form
        self._buffer = ""
        self._state = _State.CONTENT
        self._said = False
        self._object = _ObjectEnd()
        self.calls = 0

    def feed(self, text: str) -> list[Part]:
        """Add text; returns the parts that became certain."""
        self._buffer += text
        parts: list[Part] = []
        while self._step(parts):
            pass
        return parts

    def finish(self) -> list[Part]:
        """Give out held content, for the answer ends here. What is left of a call is dropped."""
        if self._state is not _State.CONTENT or not self._buffer:
            return []
        text, self._buffer = self._buffer, ""
        return [Content(text)]

    def _step(self, parts: list[Part]) -> bool:
        """Go on by one part; False if more text is needed."""
        match self._state:
            case _State.CONTENT:
                return self._content(parts)
            case _State.NAME:
                return self._name(parts)
            case _State.ARGUMENTS:
                return self._arguments(parts)
            case _State.BETWEEN:
                return self._find(self._form.closing + (self._form.between or "\0"), _State.NAME)

    def _find(self, text: str, then: _State) -> bool:
        """Skip a fixed text, and the opening of a call behind it, once all of it has come."""
        wanted = text + self._form.opening
        if not self._buffer.startswith(wanted):
            return False
        self._buffer = self._buffer[len(wanted) :]
        self._state = then
        return True

    def _content(self, parts: list[Part]) -> bool:
        at = self._mark_in(self._buffer)
        if at is not None:
            self._say(self._buffer[:at], parts, before_call=True)
            self._buffer = self._buffer[at + len(self._form.mark) :]
            self._state = _State.NAME
            return True
        held = self._held_back()
        certain = self._buffer[: len(self._buffer) - held]
        if certain.strip() or self._said:
            self._say(certain, parts)
            self._buffer = self._buffer[len(certain) :]
        return False

    def _mark_in(self, text: str) -> int | None:
        """Find a call. One without a beginning of its own can only stand first in the answer."""
        if not self._form.begin:
            return 0 if text.startswith(self._form.mark) and not self._said else None
        at = text.find(self._form.mark)
        return at if at >= 0 else None

    def _held_back(self) -> int:
        """Length of the end of the buffer with which a call may begin."""
        if not self._form.begin:
            return len(self._buffer) if self._form.mark.startswith(self._buffer) else 0
        longest = min(len(self._buffer), len(self._form.mark) - 1)
        fits = (n for n in range(longest, 0, -1) if self._buffer.endswith(self._form.mark[:n]))
        return next(fits, 0)

    def _say(self, text: str, parts: list[Part], *, before_call: bool = False) -> None:
        if text and not (before_call and not self._said and not text.strip()):
            parts.append(Content(text))
            self._said = True

    def _name(self, parts: list[Part]) -> bool:
        name, found, rest = self._buffer.partition(self._form.middle)
        if not found:
            return False
        parts.append(CallBegun(self.calls, name))
        self.calls += 1
        self._buffer, self._state, self._object = rest, _State.ARGUMENTS, _ObjectEnd()
        return True

    def _arguments(self, parts: list[Part]) -> bool:
        if not self._buffer:
            return False
        end = self._object.find(self._buffer)
        text = self._buffer[:end]
        parts.append(Arguments(self.calls - 1, text))
        self._buffer = self._buffer[len(text) :]
        if end is None:
            return False
        self._state = _State.BETWEEN
        return True


class _ObjectEnd:
    """Finds where a JSON object ends in text that comes in parts."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def find(self, text: str) -> int | None:
        """The index behind the object's last brace, None if it is not in `text`."""
        for at, character in enumerate(text):
            if self._in_string:
                self._within_string(character)
            elif character == '"':
                self._in_string = True
            else:
                self._depth += (character in "{[") - (character in "}]")
                if self._depth == 0:
                    return at + 1
        return None

    def _within_string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False
