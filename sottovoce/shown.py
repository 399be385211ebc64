"""What was verified, written for a person at a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from attestation.verdict import Outcome
from attestation.verdict import Step as Verified
from sottovoce.sdk.attestation import Attestation, Step

COLOURS = {Outcome.PASS: "green", Outcome.FAIL: "bold red", Outcome.SKIP: "yellow"}

SIMULATED = (
    "[bold red]SIMULATED[/]: the node is ordinary hardware; whoever owns that machine can read this"
)


def printable(text: str) -> str:
    """Return a model's text without what could steer a terminal: controls but newline and tab."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cf"})


def verdict(attestation: Attestation | None, console: Console) -> None:
    """Print the verdict under an answer: how the steps ended, and each that did not pass."""
    if attestation is None:
        console.print("[bold red]UNVERIFIED[/]: nothing came back that vouches for this answer")
        return
    counts = count(attestation.verification)
    console.print(
        f"[dim]verified:[/] {counts} [dim]by node[/] {attestation.node[:16]} "
        f"[dim]on[/] {escape(attestation.platform)}",
        highlight=False,
    )
    for step in attestation.skipped:
        console.print(
            f"  [yellow]skip[/] {escape(step.step)}: {escape(step.reason)}", highlight=False
        )
    if attestation.simulated:
        console.print(SIMULATED, highlight=False)


def count(steps: Sequence[Step]) -> str:
    """Say how the steps ended: `12 pass, 1 skip`."""
    found = {outcome: sum(step.outcome is outcome for step in steps) for outcome in Outcome}
    return ", ".join(
        f"[{COLOURS[outcome]}]{number} {outcome}[/]" for outcome, number in found.items() if number
    )


def steps_table(steps: Iterable[Step | Verified]) -> Table:
    """Return every step as a row."""
    table = Table("step", "outcome", "reason", box=None, padding=(0, 2))
    for step in steps:
        colour = COLOURS[step.outcome]
        table.add_row(escape(step.step), f"[{colour}]{step.outcome}[/]", escape(step.reason))
    return table
