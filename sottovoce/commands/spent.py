"""`sottovoce spent`: the spent-token store, one an operator, shared by all its workers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from issuer.spent import SpentConfig, serve_spent

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def serve(
    socket: Annotated[Path, typer.Option(help="Unix socket to listen on.")],
    database: Annotated[str, typer.Option(help="Database URL: sqlite:///FILE or postgresql://...")],
) -> None:
    """Serve the store on a unix socket."""
    serve_spent(SpentConfig(socket, database))
