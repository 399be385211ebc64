"""`sottovoce relay`: the oblivious relay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relay.app import serve as serve_relay
from relay.config import RelayConfig
from sottovoce.traces import traced

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def serve(
    worker: Annotated[list[str], typer.Option(help="URL of a worker; repeat for each.")],
    log: Annotated[str, typer.Option(help="The log's URL, whose files are cached.")],
    port: Annotated[int, typer.Option(help="Port.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    certificate: Annotated[Path | None, typer.Option(help="PEM chain, to speak HTTPS.")] = None,
    private_key: Annotated[Path | None, typer.Option(help="The certificate's key.")] = None,
    authorities: Annotated[
        Path | None, typer.Option(help="PEM roots for workers and log; else the system's.")
    ] = None,
    requests_per_s: Annotated[
        float, typer.Option(min=1, help="Requests of one address, in the long run.")
    ] = RelayConfig.requests_per_s,
    burst: Annotated[
        int, typer.Option(min=1, help="Requests of one address at once.")
    ] = RelayConfig.burst,
    batch_ms: Annotated[
        int,
        typer.Option(
            min=0,
            max=5000,
            help="Hold what crosses until the next tick of so many ms; then in random order.",
        ),
    ] = 0,
    stock_ohttp: Annotated[
        bool,
        typer.Option(help="Also serve plain OHTTP clients, which this relay could deceive."),
    ] = False,
    traces: Annotated[
        str | None,
        typer.Option(help="URL of an OpenTelemetry collector; see docs/observability.md."),
    ] = None,
) -> None:
    """Forward encapsulated requests, and nothing else."""
    serve_relay(
        RelayConfig(
            host=host,
            port=port,
            worker_urls=tuple(worker),
            log_url=log,
            certificate=certificate,
            private_key=private_key,
            authorities=authorities,
            requests_per_s=requests_per_s,
            burst=burst,
            stock_ohttp=stock_ohttp,
            batch_s=batch_ms / 1000,
        ),
        traced("sottovoce-relay", traces),
    )
