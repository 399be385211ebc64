"""`sottovoce issuer`: the token issuer and its accounts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from issuer.accounts import add_account
from issuer.app import IssuerConfig
from issuer.app import serve as serve_issuer
from issuer.keys import create_key_file

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
account = typer.Typer(no_args_is_help=True, help="The accounts that may draw tokens.")
app.add_typer(account, name="account")

Database = Annotated[str, typer.Option(help="Database URL: sqlite:///FILE or postgresql://...")]


@app.command()
def serve(
    database: Database,
    key: Annotated[list[Path], typer.Option(help="RSA key file (PEM); the preferred key first.")],
    name: Annotated[str, typer.Option(help="The issuer's name in token challenges.")],
    port: Annotated[int, typer.Option(help="Port.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve token requests (RFC 9578)."""
    serve_issuer(IssuerConfig(host, port, database, tuple(key), name))


@app.command()
def create_key(path: Annotated[Path, typer.Argument(help="Where to write the new key.")]) -> None:
    """Make a new issuer key; publish it with `sottovoce log publish issuer-key`."""
    create_key_file(path)


@account.command()
def add(
    database: Database,
    quota: Annotated[int, typer.Option(help="Tokens that the account may draw.")],
) -> None:
    """Open an account and print its key, this once."""
    typer.echo(add_account(database, quota))
