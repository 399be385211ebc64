"""`sottovoce chat`: a conversation at the terminal, with the verdict under each answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

from client.errors import ClientError
from sottovoce.conversation import Conversation
from sottovoce.failures import tell
from sottovoce.shown import printable, steps_table, verdict
from sottovoce.way import LOCAL_PROXY, Profile, Proxy, way

app = typer.Typer(add_completion=False, help=__doc__)

FORGET, STEPS = "/forget", "/steps"
_HINT = f"Ctrl-D ends; {FORGET} begins anew; {STEPS} shows every step of the last verdict."


@app.command()
def chat(
    prompt: Annotated[
        list[str] | None, typer.Argument(help="One question; without, a conversation.")
    ] = None,
    proxy: Proxy = LOCAL_PROXY,
    profile: Profile = None,
    model: Annotated[str | None, typer.Option(help="Else the first that is served.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of each answer.")] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Show every verified step.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object an answer.")] = False,
) -> None:
    """Talk to a model: what you type is kept in memory only, and forgotten at the end.

    Without a terminal on standard input, each line of it is a question.
    """
    console = Console(stderr=False)
    with way(proxy, profile) as client:
        conversation = Conversation(client, model=model, system=system)
        shown = _Shown(conversation, console, max_tokens, steps=steps, as_json=as_json)
        if prompt:
            shown.turn(" ".join(prompt))
            return
        for line in _lines(console):
            shown.line(line)
    raise typer.Exit(1 if shown.failed else 0)


class _Shown:
    """A conversation as a person or a program sees it."""

    def __init__(
        self,
        conversation: Conversation,
        console: Console,
        max_tokens: int | None,
        *,
        steps: bool,
        as_json: bool,
    ) -> None:
        self._conversation = conversation
        self._console = console
        self._max_tokens = max_tokens
        self._steps = steps
        self._as_json = as_json
        self.failed = False

    def line(self, line: str) -> None:
        """Do what a line says; a failure ends its turn, not the conversation."""
        if line == FORGET:
            self._conversation.forget()
        elif line == STEPS:
            self._show_steps()
        else:
            try:
                self.turn(line)
            except ClientError as error:
                self.failed = True
                tell(Console(stderr=True), "sottovoce chat", error)

    def turn(self, text: str) -> None:
        """Ask, and show answer and verdict."""
        deltas = self._conversation.ask(text, max_tokens=self._max_tokens)
        if self._as_json:
            self._print_json("".join(deltas))
            return
        for delta in deltas:
            self._console.print(
                printable(delta), end="", markup=False, highlight=False, soft_wrap=True
            )
        self._console.print()
        verdict(self._conversation.attestation, self._console)
        if self._steps:
            self._show_steps()

    def _show_steps(self) -> None:
        if (found := self._conversation.attestation) is not None:
            self._console.print(steps_table(found.verification))

    def _print_json(self, content: str) -> None:
        found = self._conversation.attestation
        attestation = None if found is None else found.model_dump(mode="json")
        answer = {"model": self._conversation.model, "content": content}
        print(json.dumps({**answer, "attestation": attestation}), flush=True)


def _lines(console: Console) -> Iterator[str]:
    """Yield what a person types, or the lines of a file; empty ones are left out."""
    if not sys.stdin.isatty():
        yield from filter(None, map(str.strip, sys.stdin))
        return
    console.print(f"[dim]{_HINT}[/]", highlight=False)
    while True:
        try:
            line = console.input("[bold]> [/]").strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if line:
            yield line
