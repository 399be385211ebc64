"""How far a benchmark is, for a person: cases done, the last one, the time it has taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sottovoce.bench.line import Line


def watched(lines: Iterable[Line], console: Console) -> Iterator[Line]:
    """Pass the lines on, with a bar on a terminal and nothing at all elsewhere.

    The bar has no end: how many cases there are depends on what this machine can measure.
    """
    with _bar(console) as bar:
        task = bar.add_task("measuring", total=None, last="")
        for done, each in enumerate(lines, 1):
            bar.update(task, completed=done, last=f"{each.case}: {each.value:g} {each.unit}")
            yield each


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.completed} cases"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[last]}"),
        console=console,
        transient=True,
        redirect_stdout=False,  # a program reads it, while the bar is on the other
        disable=not console.is_terminal,
    )
