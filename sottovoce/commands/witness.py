"""`sottovoce witness`: cosigns a log's checkpoints as long as the log only ever appends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.trust import load_trust
from transparency.witness import WitnessConfig
from transparency.witness import serve as serve_witness

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def serve(
    name: Annotated[str, typer.Option(help="The name of the witness's key.")],
    key: Annotated[Path, typer.Option(help="Seed file of the witness's key.")],
    state: Annotated[Path, typer.Option(help="File for the last checkpoint cosigned.")],
    trust: Annotated[Path, typer.Option(help="trust.toml, for the log's key.")],
    port: Annotated[int, typer.Option(help="Port.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve C2SP `add-checkpoint`."""
    log_key = load_trust(trust).log_policy.log_vkey
    serve_witness(WitnessConfig(name, log_key, key, state, host, port))
