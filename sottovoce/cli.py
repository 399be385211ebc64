"""The command line: one sub-command a party or task, each imported only when it is asked for.

The proxy must never load torch, the relay never anything that could open a request, and `--help`
must not take seconds: so nothing but the asked-for command's module is imported.
"""

from __future__ import annotations

import sys
from importlib import import_module

from rich.console import Console
from rich.table import Table

from client.errors import ClientError
from sottovoce.failures import tell

COMMANDS = {
    "up": "Start every party on this machine and serve a model.",
    "worker": "Run a worker node: attest, register in the log, serve requests.",
    "relay": "Run an oblivious relay.",
    "issuer": "Run the token issuer; `issuer account add` makes an account.",
    "spent": "Run the spent-token store.",
    "log": "Run the transparency log; `log publish` adds a signed leaf.",
    "witness": "Run a witness of the log.",
    "proxy": "Run the local proxy that OpenAI clients talk to.",
    "chat": "Talk to a model, with the verdict under each answer.",
    "nodes": "List the nodes, and which of them a prompt would be sent to.",
    "wallet": "Show how many requests can be paid for.",
    "verify": "Judge evidence, a node, a receipt, a log or a policy, offline.",
    "calibrate": "Measure how a model rounds here, and write its verification thresholds.",
    "bench": "Measure what the goals promise; `bench wire`, `path`, `engine`, `pipeline`.",
    "completion": "Let bash, zsh or fish complete the words of this command.",
}
"""Command name to its one-line description; the module is `sottovoce.commands.<name>`."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command that the arguments name; exit 2 if they name none."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in {"-h", "--help"}:
        _print_commands(Console())
        sys.exit(0 if arguments else 2)
    name, *rest = arguments
    if name not in COMMANDS:
        console = Console(stderr=True)
        console.print(f"sottovoce: there is no command {name!r}", markup=False)
        _print_commands(console)
        sys.exit(2)
    module = import_module(f"sottovoce.commands.{name}")
    try:
        module.app(rest, prog_name=f"sottovoce {name}")
    except (ClientError, OSError, ValueError) as error:
        # What a wrong file, address or key ends in: sentences for a person, not a trace.
        tell(Console(stderr=True), f"sottovoce {name}", error)
        sys.exit(1)


def _print_commands(console: Console) -> None:
    console.print("usage: sottovoce COMMAND [OPTIONS]   (sottovoce COMMAND --help says more)\n")
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, description in COMMANDS.items():
        table.add_row(name, description)
    console.print(table)
