"""`sottovoce wallet`: how many requests can be paid for, and what came back."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sottovoce.way import LOCAL_PROXY, Profile, Proxy, fetch, way

app = typer.Typer(add_completion=False, help=__doc__)

_MEANINGS = {
    "tokens": "in stock; a short request shows one",
    "tokens_given_back": "came back unused, blindly signed anew",
    "redraws": "refusals that led to another draw of a node",
}


@app.command()
def wallet(
    proxy: Proxy = LOCAL_PROXY,
    profile: Profile = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the stock of tokens. Exit 1 if it is empty."""
    with way(proxy, profile) as client:
        found = fetch(client, "/verification")
    if as_json:
        print(json.dumps({name: found[name] for name in _MEANINGS}))
    else:
        table = Table("wallet", "", "", box=None, padding=(0, 2))
        for name, meaning in _MEANINGS.items():
            table.add_row(name.replace("_", " "), str(found[name]), f"[dim]{meaning}[/]")
        Console().print(table)
    raise typer.Exit(0 if found["tokens"] else 1)
