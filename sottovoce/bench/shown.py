"""Results for a program, as they come, or for a person, as a table."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from sottovoce.bench.line import Line


def table(lines: Iterable[Line]) -> Table:
    """Return the lines as a table for a person."""
    shown = Table("case", "median", "unit", "quartiles", "samples", box=None, padding=(0, 2))
    for each in lines:
        low, high = each.spread
        shown.add_row(
            each.case, f"{each.value:g}", each.unit, f"{low:g} .. {high:g}", str(each.samples)
        )
    return shown


def show(lines: Iterable[Line], console: Console, *, as_json: bool) -> None:
    """Print each line as soon as it is measured, or all of them as a table at the end."""
    if as_json:
        for each in lines:
            print(each.encode(), flush=True)
    else:
        console.print(table(lines))
