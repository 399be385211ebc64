"""`sottovoce up`: every party on this machine, each a process of its own."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from sottovoce.engine_config import (
    Device,
    EngineOptions,
    KvOffload,
    KvTruncation,
    Speculation,
    Verification,
    Weights,
)
from sottovoce.up import Up, UpOptions

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run(
    port_base: Annotated[int, typer.Option(help="The proxy's port; the others follow.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=16, help="How many workers.")] = 1,
    model: Annotated[
        str | None,
        typer.Option(help="A Hugging Face model folder or hub name; else the model in the box."),
    ] = None,
    list_epoch: Annotated[
        int, typer.Option(min=2, help="Seconds of a node-list epoch; a fleet uses 600.")
    ] = 60,
    stock_ohttp: Annotated[
        bool, typer.Option(help="Let the relay serve plain OHTTP clients, for interoperation.")
    ] = False,
    adapter: Annotated[
        str | None, typer.Option(help="Folder or hub name of a LoRA adapter of the model.")
    ] = None,
    direct: Annotated[
        bool, typer.Option(help="Let workers also serve plain HTTPS clients, on ports +50, +51.")
    ] = False,
    device: Device = "cpu",
    weights: Weights = None,
    speculation: Speculation = "none",
    draft: Annotated[
        str | None,
        typer.Option(help="With --speculation draft: folder or hub name of the draft model."),
    ] = None,
    kv_truncation: KvTruncation = False,
    kv_offload: KvOffload = 0,
    verification: Verification = None,
) -> None:
    """Start everything, print the endpoint, and stay until Ctrl-C."""
    engine = EngineOptions(
        device, weights, speculation, None, kv_truncation, verification, kv_offload
    )
    options = UpOptions(
        port_base, workers, model, list_epoch, stock_ohttp, adapter, direct, engine, draft
    )
    raise typer.Exit(Up(options, Console()).run())
