"""`sottovoce nodes`: which nodes there are now, and which of them a prompt would be sent to."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from attestation.verdict import Outcome
from sottovoce.failures import Answered
from sottovoce.sdk.attestation import Step
from sottovoce.shown import SIMULATED, count, steps_table
from sottovoce.way import LOCAL_PROXY, Profile, Proxy, fetch, way

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def nodes(
    proxy: Proxy = LOCAL_PROXY,
    profile: Profile = None,
    steps: Annotated[bool, typer.Option("--steps", help="Show every step of each node.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a node.")] = False,
) -> None:
    """List the nodes of the current epoch with their verdicts. Exit 1 if none can be used."""
    with way(proxy, profile) as client:
        found = fetch(client, "/verification")
    if found["error"] is not None and not found["nodes"]:
        raise Answered(found["error"]["message"], found["error"]["code"])
    if as_json:
        for node in found["nodes"]:
            print(json.dumps(node))
    else:
        _show(found, Console(), steps=steps)
    raise typer.Exit(0 if any(node["verified"] for node in found["nodes"]) else 1)


def _show(found: dict[str, Any], console: Console, *, steps: bool) -> None:
    table = Table("node", "use", "model", "platform", "steps", box=None, padding=(0, 2))
    for node in found["nodes"]:
        table.add_row(
            node["node"][:16],
            "[green]yes[/]" if node["verified"] else "[bold red]no[/]",
            escape(node.get("model", "")),
            escape(node.get("platform", "")),
            count(_steps(node)),
        )
    console.print(table)
    for node in found["nodes"]:
        _explain(node, console, steps=steps)
    if found["simulated"]:
        console.print(SIMULATED, highlight=False)


def _explain(node: dict[str, Any], console: Console, *, steps: bool) -> None:
    if steps:
        console.print(f"\n[bold]{node['node']}[/]", highlight=False, soft_wrap=True)
        console.print(steps_table(_steps(node)))
        return
    for step in _steps(node):
        if step.outcome is Outcome.FAIL:
            text = f"{node['node'][:16]} refused: {step.step}: {step.reason}"
            console.print(text, markup=False, highlight=False)


def _steps(node: dict[str, Any]) -> list[Step]:
    return [Step.model_validate(step) for step in node["steps"]]
