"""`sottovoce issuer`: the token issuer and its accounts."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from issuer.accounts import add_account
from issuer.app import IssuerConfig
from issuer.app import serve as serve_issuer
from issuer.keys import KeyRing, create_key_file
from sottovoce.traces import traced
from wire import inner
from wire.token_life import KeyPeriod

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
account = typer.Typer(no_args_is_help=True, help="The accounts that may draw tokens.")
app.add_typer(account, name="account")

DAY_S = 86_400
LIFETIME_DAYS = 90
"""How long an issuer key is in use: long enough that tokens do not run out between two visits of a
client, and its spent rows (about 150 bytes each) stay few."""

Database = Annotated[str, typer.Option(help="Database URL: sqlite:///FILE or postgresql://...")]


@app.command()
def serve(
    database: Database,
    key: Annotated[list[Path], typer.Option(help="Issuer key file; repeat for the next key.")],
    name: Annotated[str, typer.Option(help="The issuer's name in token challenges.")],
    port: Annotated[int, typer.Option(help="Port.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    spent: Annotated[
        Path | None,
        typer.Option(help="Unix socket of the spent-token store, for exchanges and refunds."),
    ] = None,
    traces: Annotated[
        str | None,
        typer.Option(help="URL of an OpenTelemetry collector; see docs/observability.md."),
    ] = None,
) -> None:
    """Serve token requests (RFC 9578), exchanges and refunds."""
    origin_info = inner.AUTHORITY.decode()
    config = IssuerConfig(host, port, database, tuple(key), name, spent, origin_info)
    serve_issuer(config, traced("sottovoce-issuer", traces))


@app.command()
def create_key(
    path: Annotated[Path, typer.Argument(help="Where to write the new key.")],
    days: Annotated[int, typer.Option(min=1, help="How long the key is in use.")] = LIFETIME_DAYS,
) -> None:
    """Make the first key; publish it with `sottovoce log publish issuer-key`."""
    now = int(time.time())
    create_key_file(path, KeyPeriod(now, now + days * DAY_S))


@app.command()
def rotate(
    path: Annotated[Path, typer.Argument(help="Where to write the next key.")],
    current: Annotated[list[Path], typer.Option(help="Key file in use; repeat for each.")],
    days: Annotated[int, typer.Option(min=1, help="How long the key is in use.")] = LIFETIME_DAYS,
    lead_hours: Annotated[
        int, typer.Option(min=0, help="Time to publish it and start the issuer with it.")
    ] = 24,
) -> None:
    """Make the next key and say what to do with it, in which order."""
    keys = KeyRing.from_files(current)
    period = next_period(keys, now=int(time.time()), days=days, lead_s=lead_hours * 3600)
    create_key_file(path, period, unlike={key.truncated_key_id for key in keys.keys})
    keys.close()
    begins = datetime.fromtimestamp(period.not_before, UTC).isoformat()
    typer.echo(
        f"{path}: in use from {begins}. Before then, in this order:\n"
        f"  1. sottovoce log publish issuer-key {path} --name ... --log ... --key ...\n"
        f"  2. start the issuer again with a further --key {path}\n"
        "Nothing else: wallets, workers and the spent-token store follow by themselves."
    )


def next_period(keys: KeyRing, *, now: int, days: int, lead_s: int) -> KeyPeriod:
    """Return the period of the key after `keys`: in time, and never a third live one.

    It begins half-way through the life of the newest key, but not within `lead_s` from now, and
    not before all older keys are over.
    """
    newest, *older = (key.period for key in keys.keys)
    half = (newest.not_before + newest.not_after) // 2
    begin = max(half, now + lead_s, *(period.over_at for period in older))
    return KeyPeriod(begin, begin + days * DAY_S)


@account.command()
def add(
    database: Database,
    quota: Annotated[int, typer.Option(help="Tokens that the account may draw.")],
) -> None:
    """Open an account and print its key, this once."""
    typer.echo(add_account(database, quota))
