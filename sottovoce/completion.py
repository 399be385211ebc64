"""Completion of `sottovoce`'s words in a shell: which could come next.

The shells' scripts ask the command itself (`sottovoce completion words`), so that they are never
older than it is; only the module of the command on the line is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from importlib import import_module
from typing import Any, get_args

import typer.main

from sottovoce.cli import COMMANDS

SCRIPTS = {
    "bash": """\
_sottovoce() {
    local IFS=$'\\n'
    COMPREPLY=($(sottovoce completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _sottovoce sottovoce
""",
    "zsh": """\
#compdef sottovoce
_sottovoce() {
    local -a found
    found=("${(@f)$(sottovoce completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -- $found; else _files; fi
}
compdef _sottovoce sottovoce
""",
    "fish": """\
function __sottovoce
    set -l words (commandline --tokenize --cut-at-cursor) (commandline --current-token)
    sottovoce completion words -- $words[2..-1] 2>/dev/null
end
complete --command sottovoce --arguments '(__sottovoce)'
""",
}
"""The script of each shell, to be evaluated when it starts."""


def candidates(words: Sequence[str]) -> list[str]:
    """Return what the last of `words` could become; nothing where a file or free text is meant.

    `words` are those after `sottovoce`; the last is the one that is being written, maybe empty.
    """
    *before, begun = words or [""]
    if not before:
        return _beginning(begun, COMMANDS)
    if before[0] not in COMMANDS:
        return []
    command = _command(before[0])
    for word in before[1:]:
        command = getattr(command, "commands", {}).get(word, command)
    if (choices := _choices(command, before[-1])) is not None:
        return _beginning(begun, choices)
    return _beginning(begun, _next(command) if begun.startswith("-") else _inner(command))


def _command(name: str) -> Any:  # noqa: ANN401 - of the library within typer
    return typer.main.get_command(import_module(f"sottovoce.commands.{name}").app)


def _beginning(begun: str, words: Sequence[str] | dict[str, str]) -> list[str]:
    return sorted(word for word in words if word.startswith(begun))


def _inner(command: Any) -> list[str]:  # noqa: ANN401 - likewise
    """Sub-commands, or the values of the argument that stands where options do not."""
    inner = getattr(command, "commands", {})
    arguments = [each for each in command.params if not each.opts[0].startswith("-")]
    values = [value for each in arguments for value in _values(each)]
    return [name for name, each in inner.items() if not each.hidden] + values


def _next(command: Any) -> list[str]:  # noqa: ANN401 - likewise
    options = [name for each in command.params for name in (*each.opts, *each.secondary_opts)]
    return [name for name in (*options, "--help") if name.startswith("--")]


def _choices(command: Any, word: str) -> Sequence[str] | None:  # noqa: ANN401 - likewise
    """Return the values of the option `word`, or None if it is none that takes a value."""
    for each in command.params:
        if word in each.opts and word.startswith("-") and not getattr(each, "is_flag", False):
            return _values(each)
    return None


def _values(parameter: Any) -> list[str]:  # noqa: ANN401 - likewise
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    kinds = [annotation, *get_args(annotation)]  # a list or a union: of what
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    return [str(each.value) for kind in enums for each in kind]
