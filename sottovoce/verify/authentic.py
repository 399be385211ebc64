"""Evidence that was found authentic, whatever its kind, and the files that it came in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from attestation.verdict import Outcome, Step
from attestation.verifier.policy import ClientPolicy
from sottovoce.verify.arguments import Unusable


@dataclass(frozen=True)
class EvidenceFiles:
    """What is given of one piece of evidence.

    Attributes:
        evidence: the quote or report.
        chain: certificates, in the order given.
        collateral: whatever else it is judged with.
        event_log: the firmware's log; empty if none.
    """

    evidence: bytes
    chain: tuple[bytes, ...] = ()
    collateral: tuple[bytes, ...] = ()
    event_log: bytes = b""

    def refuse(self, **useless: object) -> None:
        """Refuse files that the kind of evidence has no use for: nothing is left unlooked at.

        Raises:
            Unusable: one of them is there.
        """
        for name, files in useless.items():
            if files:
                raise Unusable(f"this kind of evidence has no use for --{name.replace('_', '-')}")


@dataclass(frozen=True)
class Authentic:
    """A verification that held.

    Attributes:
        claims: what the evidence states, by the names of its format.
        worth: what was shown, in one sentence for a person.
        accept: judges it under a policy at a time; returns the reason, raises `Refused`.
        aspects: what else was looked at, or could have been: passes and skips.
    """

    claims: Mapping[str, object]
    worth: str
    accept: Callable[[ClientPolicy, int], str]
    aspects: tuple[Step, ...] = ()


def aspect(step: str, *, looked: bool, found: str, missing: str) -> Step:
    """Return a step that passed, or one that was skipped."""
    return Step(step, Outcome.PASS, found) if looked else Step(step, Outcome.SKIP, missing)


def event_log_aspect(*, looked: bool) -> Step:
    """Return the step about an event log that leads to the quoted registers."""
    return aspect(
        "event-log",
        looked=looked,
        found="its replay leads to the registers that were quoted",
        missing="no event log was given",
    )


def only(files: Sequence[bytes], what: str) -> bytes:
    """Return the one file of these; nothing if there is none.

    Raises:
        Unusable: there are several.
    """
    if len(files) > 1:
        raise Unusable(f"{what} is one file")
    return files[0] if files else b""
