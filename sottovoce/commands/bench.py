"""`sottovoce bench`: what the goals promise, measured on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Console

from sottovoce.bench.line import Line, show

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Quick = Annotated[bool, typer.Option(help="A few samples, to see that it runs.")]


@app.command()
def wire(as_json: Json = False, quick: Quick = False) -> None:
    """Opening, sealing, signing, redeeming, relaying."""
    from sottovoce.bench import wire as cases  # noqa: PLC0415 - each command its own imports

    _show(cases.measure(cases.QUICK if quick else cases.WireSizes()), as_json=as_json)


@app.command()
def path(as_json: Json = False, quick: Quick = False) -> None:
    """The whole path against the same worker's application in the clear."""
    from sottovoce.bench import path as cases  # noqa: PLC0415 - likewise

    _show(cases.measure(cases.QUICK if quick else cases.PathSizes()), as_json=as_json)


@app.command(
    hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def worker(
    context: typer.Context,
    plain_port: Annotated[int, typer.Option(help="Port of the plain face.")],
) -> None:
    """Run `sottovoce worker`, its engine with a plain face (for `bench path`)."""
    from dataclasses import replace  # noqa: PLC0415

    from server.launcher import PARTS  # noqa: PLC0415
    from sottovoce.commands import worker as command  # noqa: PLC0415

    def engine(control: int, config: object, ready: int) -> None:
        # After the fork, and before torch: as the engine itself is imported.
        from sottovoce.bench.plain_face import engine_with_plain_face  # noqa: PLC0415

        engine_with_plain_face(plain_port)(control, config, ready)  # type: ignore[arg-type]

    command.app(context.args, prog_name="sottovoce bench worker", obj=replace(PARTS, engine=engine))


@app.command(hidden=True)
def stub_worker(port: Annotated[int, typer.Option(help="Port.")]) -> None:
    """Answer a relay from constants (for `bench wire`)."""
    from sottovoce.bench.relaying import serve_stub_worker  # noqa: PLC0415

    serve_stub_worker(port)


def _show(lines: Iterator[Line], *, as_json: bool) -> None:
    console = Console()
    busy = nullcontext() if as_json else console.status("measuring ...")
    with busy:
        show(lines, console, as_json=as_json)
