"""What a verification found: claims and steps, for people and for programs.

Exit 0 with the claims; 1 with `{"error": {"code", "message"}}`; 2 if nothing could be judged.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from attestation.errors import VerificationError
from attestation.verdict import Outcome, Step
from sottovoce.shown import steps_table
from sottovoce.verify.advice import advice
from sottovoce.verify.arguments import Unusable

PASSED, FAILED, UNUSABLE = 0, 1, 2
_WIDEST = 96


@dataclass(frozen=True)
class Verified:
    """A verification that held: what is now known, and the steps that showed it."""

    claims: Mapping[str, object]
    steps: tuple[Step, ...] = ()
    sentences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Under headings, for a person, who is shown them in place of the claims."""

    def to_json(self) -> dict[str, object]:
        """Return the claims as one flat object, the steps beside them."""
        steps = {"verification": [step.to_json() for step in self.steps]} if self.steps else {}
        return {**self.claims, **steps}


class Failure(Exception):
    """A verification that did not hold, of something that is no evidence: a log, say.

    Attributes:
        step: the step that failed.
        code: which way it failed.
        reason: one sentence for a person.
        steps: the steps so far, this one the last.
    """

    def __init__(self, step: str, code: str, reason: str, before: Sequence[Step] = ()) -> None:
        super().__init__(f"{step}: {reason} ({code})")
        self.step = step
        self.code = code
        self.reason = reason
        self.steps = (*before, Step(step, Outcome.FAIL, reason))


def run(work: Callable[[], Verified], console: Console, *, as_json: bool) -> int:
    """Do a verification, show what it found, and return how the command ends."""
    try:
        with warnings.catch_warnings():
            # A library's remarks on others' certificates: what matters of them is an error here.
            warnings.simplefilter("ignore")
            found = work()
    except Unusable as error:
        _show_error("unusable-arguments", str(error), console, as_json=as_json)
        return UNUSABLE
    except (Failure, VerificationError) as error:
        if not as_json:
            console.print(steps_table(error.steps))
        _show_error(error.code, f"{error.step}: {error.reason}", console, as_json=as_json)
        return FAILED
    if as_json:
        _print_json(found.to_json())
    else:
        _show_verified(found, console)
    return PASSED


def _print_json(members: Mapping[str, object]) -> None:
    # Not through rich: it wraps and colours, and a program reads this.
    print(json.dumps(members, indent=2))


def _show_error(code: str, message: str, console: Console, *, as_json: bool) -> None:
    if as_json:
        _print_json({"error": {"code": str(code), "message": message}})
    else:
        console.print(f"[bold red]refused[/] ({escape(str(code))}): {escape(message)}")
        if (text := advice(code)) is not None:
            console.print(f"[bold]advice[/]: {escape(text)}")


def _show_verified(found: Verified, console: Console) -> None:
    if found.sentences:
        _show_sentences(found.sentences, console)
        return
    if not found.steps:
        console.print(_claims(found.claims))
        return
    console.print(steps_table(found.steps))
    console.print(_claims(found.claims))
    skipped = [step.step for step in found.steps if step.outcome is Outcome.SKIP]
    if skipped:
        console.print(f"[yellow]held, without {escape(', '.join(skipped))}[/]")
    else:
        console.print("[green]held[/]")


def _show_sentences(sentences: Mapping[str, tuple[str, ...]], console: Console) -> None:
    for heading, lines in sentences.items():
        console.print(f"[bold]{escape(heading)}[/]")
        for line in lines:
            console.print(f"  {escape(line)}", highlight=False)


def _claims(claims: Mapping[str, object]) -> Table:
    table = Table("claim", "value", box=None, padding=(0, 2))
    for name, value in claims.items():
        text = value if isinstance(value, str) else json.dumps(value)
        table.add_row(name, escape(text if len(text) <= _WIDEST else f"{text[:_WIDEST]}..."))
    return table
