"""The monitor's face: what `sottovoce log audit` says to a person and to a program."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from client.trust import Trust
from transparency.errors import TransparencyError
from transparency.misbehaviour import Misbehaviour, check_misbehaviour
from transparency.monitor import TIMEOUT_S, Monitor, Report, http_fetch

ADVICE = {
    "inconsistent": "The log signed two histories. Publish the proof; trust nothing from this log.",
    "rolled_back": "The log, or a cache before it, shows an older tree. Ask the log itself, later.",
    "two_lists": "Two sets of clients were told of different nodes. Publish the proof.",
    "wrong_role": "A leaf by a key that did not have the role. Publish the proof.",
    "not_included": "What is served is not what was signed. Try another mirror, then publish.",
}
"""What to do about a finding, for those that name an act."""


def run_audit(url: str, trust: Trust, state: Path, *, as_json: bool) -> int:
    """Audit a log once and print the report; return the exit status, 1 if anything is wrong."""
    try:
        with httpx.Client(trust_env=False, timeout=TIMEOUT_S) as client:
            monitor = Monitor(
                trust.log_policy,
                trust.roles,
                trust.list_epoch_s,
                state,
                http_fetch(url, client),
            )
            report = monitor.run(int(time.time()))
    except TransparencyError as error:
        _print_error(error, as_json=as_json)
        return 1
    if as_json:
        print(json.dumps(report.to_json(), separators=(",", ":")))
    else:
        _print_report(report, state, Console())
    return 1 if report.findings else 0


def run_check(path: Path, trust: Trust, later_list_keys: frozenset[bytes] = frozenset()) -> int:
    """Say what a published proof proves; return the exit status.

    `later_list_keys` have the list role by rotation, as the log or its monitor says.
    """
    console, list_keys = Console(), later_list_keys | {trust.roles.list}
    try:
        found = Misbehaviour.decode(path.read_bytes())
        proven = check_misbehaviour(found, trust.log_policy.log_key, list_keys)
    except TransparencyError as error:
        console.print(f"[red]proves nothing[/red] ({error.code}): {error}", highlight=False)
        return 1
    console.print(f"[bold red]{trust.log_origin}[/bold red]: {proven}", highlight=False)
    return 0


def _print_error(error: TransparencyError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": {"code": error.code, "message": str(error)}}))
    else:
        Console().print(f"[red]not audited[/red] ({error.code}): {error}", highlight=False)


def _print_report(report: Report, state: Path, console: Console) -> None:
    since = f", {report.size - report.previous_size} since the last audit"
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_row("log", report.origin)
    table.add_row("leaves", f"{report.size}{since if report.previous_size else ''}")
    table.add_row("root", report.root.hex())
    for kind, number in sorted(report.counts.items()):
        table.add_row("", f"{number} {kind}")
    table.add_row("nodes document", report.document)
    console.print(table)
    if not report.findings:
        console.print("[green]pass[/green]: every leaf is what it should be", highlight=False)
    for found in report.findings:
        console.print(f"[bold red]{found.code}[/bold red]: {found.message}", highlight=False)
        if found.code in ADVICE:
            console.print(f"    {ADVICE[found.code]}", highlight=False)
    if report.findings:
        console.print(f"{len(report.findings)} finding(s); proofs are in {state}", highlight=False)
