"""What a verification found, step by step: pass, fail or skip, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How one step, or a whole verdict, ended."""

    PASS = "pass"  # noqa: S105 - an outcome, not a password
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class Step:
    """One step of a verification.

    Attributes:
        step: its name, lower-case words joined by hyphens.
        outcome: how it ended; a skip says that nothing was checked.
        reason: one sentence for a person.
    """

    step: str
    outcome: Outcome
    reason: str

    def to_json(self) -> dict[str, str]:
        """Return the members of the JSON form."""
        return {"step": self.step, "outcome": self.outcome.value, "reason": self.reason}


@dataclass(frozen=True)
class Verdict:
    """The steps of a verification in their order."""

    steps: tuple[Step, ...]

    @property
    def outcome(self) -> Outcome:
        """Fail if any step failed; pass only if every step passed and there was one; else skip."""
        outcomes = {step.outcome for step in self.steps}
        if Outcome.FAIL in outcomes:
            return Outcome.FAIL
        return Outcome.PASS if outcomes == {Outcome.PASS} else Outcome.SKIP

    def to_json(self) -> dict[str, object]:
        """Return the JSON form: the outcome over all, and the list of steps."""
        return {
            "outcome": self.outcome.value,
            "steps": [step.to_json() for step in self.steps],
        }
