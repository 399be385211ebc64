"""`sottovoce relay`: the oblivious relay."""

from __future__ import annotations

from typing import Annotated

import typer
from relay.app import serve as serve_relay
from relay.config import RelayConfig

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def serve(
    worker: Annotated[list[str], typer.Option(help="URL of a worker; repeat for each.")],
    log: Annotated[str, typer.Option(help="The log's URL, whose files are cached.")],
    port: Annotated[int, typer.Option(help="Port.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Forward encapsulated requests, and nothing else."""
    serve_relay(RelayConfig(host=host, port=port, workers=tuple(worker), log_url=log))
