"""`sottovoce calibrate`: measures a model's honest rounding, and writes its thresholds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def calibrate(
    model: Annotated[Path, typer.Option(help="The model's folder; thresholds.json goes there.")],
    runs: Annotated[int, typer.Option(help="Runs of 192 and 64 ids to measure over.", min=1)] = 4,
    weights: Annotated[str, typer.Option(help="'as stored' or 'int8'.")] = "as stored",
    threads: Annotated[int | None, typer.Option(help="Compute threads.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
) -> None:
    """Measure, and write thresholds.json: it becomes part of the model digest."""
    from engine.config import EngineConfig  # noqa: PLC0415 - torch, for this command only
    from engine.errors import EngineError  # noqa: PLC0415
    from engine.verification import thresholds  # noqa: PLC0415
    from engine.verification.calibrate import calibrated  # noqa: PLC0415

    config = EngineConfig(model=model, weights=weights, threads=threads)
    try:
        found = calibrated(config, runs=runs)
    except EngineError as error:
        raise ValueError(str(error)) from error
    table = Table("threshold", "seen", "set", "bound", box=None)
    bounds = asdict(thresholds.BOUNDS)
    for name, value in asdict(found.thresholds).items():
        seen = asdict(found.seen)[name]
        table.add_row(
            name, f"{seen:.3g}" if seen else "by theory", f"{value:.3g}", f"{bounds[name]:.3g}"
        )
    console = Console()
    console.print(table)
    console.print(f"{found.rows} rows of products, none beyond its threshold")
    if not dry_run:
        (model / thresholds.FILE).write_bytes(thresholds.write(found.thresholds))
