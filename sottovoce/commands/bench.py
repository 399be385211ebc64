"""`sottovoce bench`: what the goals promise, measured on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from sottovoce.bench.line import Line
from sottovoce.bench.progress import watched
from sottovoce.bench.shown import show

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


@app.command()
def pipeline(as_json: Json = False, quick: Quick = False) -> None:
    """Sealed transfers to an emulated device, against plain ones."""
    from sottovoce.bench import pipeline as cases  # noqa: PLC0415 - likewise

    _show(cases.measure(cases.QUICK if quick else cases.PipelineSizes()), as_json=as_json)


@app.command()
def verify(as_json: Json = False, quick: Quick = False) -> None:
    """What checks cost, and whether lies are caught; an emulated device."""
    from sottovoce.bench import verify as cases  # noqa: PLC0415 - likewise

    _show(cases.measure(cases.QUICK if quick else cases.VerifySizes()), as_json=as_json)


class EngineShape(StrEnum):
    """Shapes of `bench engine`."""

    HALF_B = "0.5b"
    TINY_10M = "tiny10m"


@app.command()
def engine(
    as_json: Json = False,
    quick: Quick = False,
    shape: Annotated[EngineShape, typer.Option(help="Of the model.")] = EngineShape.HALF_B,
    only: Annotated[str, typer.Option(metavar="CASE", help="Cases whose name begins so.")] = "",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of every engine; all cores by default.")
    ] = None,
    llama: Annotated[
        str | None,
        typer.Option(
            metavar="PYTHON",
            envvar="SOTTOVOCE_BENCH_LLAMA",
            help="An interpreter that has llama_cpp and gguf.",
        ),
    ] = None,
) -> None:
    """The engine against transformers and llama.cpp, on the same random weights."""
    from sottovoce.bench import engine as cases  # noqa: PLC0415 - likewise

    sizes = cases.sizes_for(shape, quick=quick)
    if not any(name.startswith(only) for each in cases.experiments(sizes) for name in each.cases):
        raise typer.BadParameter("no case has a name that begins so", param_hint="--only")
    lines = cases.measure(
        sizes,
        shape.value,
        cases.SHAPES[shape],
        threads=threads or len(os.sched_getaffinity(0)),
        llama=llama,
        only=only,
    )
    _show(lines, as_json=as_json)


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

    # The face is a server: in the process that becomes the engine, it could not be confined.
    parts = replace(PARTS, engine=engine, confinement=lambda _: None)
    command.app(context.args, prog_name="sottovoce bench worker", obj=parts)


@app.command(hidden=True)
def stub_worker(port: Annotated[int, typer.Option(help="Port.")]) -> None:
    """Answer a relay from constants (for `bench wire`)."""
    from sottovoce.bench.relaying import serve_stub_worker  # noqa: PLC0415

    serve_stub_worker(port)


def _show(lines: Iterator[Line], *, as_json: bool) -> None:
    # A program reads standard output; the bar is for whoever waits in front of it.
    watched_lines = watched(lines, Console(stderr=as_json))
    show(watched_lines, Console(), as_json=as_json)
