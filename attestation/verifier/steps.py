"""The run of a verification: ordered, named steps, of which the first that fails ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

from attestation.errors import Refused, VerificationError
from attestation.verdict import Outcome, Step, Verdict

T = TypeVar("T")
P = ParamSpec("P")

NOT_REACHED = "not reached"


@dataclass(frozen=True)
class Finding(Generic[T]):
    """What a check that held has found, and why it held, in one sentence for a person."""

    value: T
    reason: str


class Progress:
    """The steps made so far of a verification whose steps are known beforehand.

    Args:
        names: all steps in their order. Each is made, or skipped with its reason.
        error: what a failing step raises.
    """

    def __init__(self, names: Sequence[str], error: type[VerificationError]) -> None:
        self._names = tuple(names)
        self._error = error
        self._steps: list[Step] = []

    @property
    def verdict(self) -> Verdict:
        """The verdict so far; the steps still to come are skips."""
        made = len(self._steps)
        missing = (Step(name, Outcome.SKIP, NOT_REACHED) for name in self._names[made:])
        return Verdict((*self._steps, *missing))

    def check(
        self, name: str, function: Callable[P, Finding[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Make the next step, and return what it found.

        Raises:
            VerificationError: (the run's own kind) the check did not hold.
            ValueError: `name` is not the step that comes next.
        """
        self._expect(name)
        try:
            finding = function(*args, **kwargs)
        except Refused as refused:
            self._steps.append(Step(name, Outcome.FAIL, refused.reason))
            raise self._error(name, refused.code, refused.reason, self.verdict) from refused
        self._steps.append(Step(name, Outcome.PASS, finding.reason))
        return finding.value

    def skip(self, name: str, reason: str) -> None:
        """Say why the next step is not made. A skipped step is never a pass.

        Raises:
            ValueError: `name` is not the step that comes next.
        """
        self._expect(name)
        self._steps.append(Step(name, Outcome.SKIP, reason))

    def _expect(self, name: str) -> None:
        if self._names[len(self._steps)] != name:
            raise ValueError(f"the step {name} is out of order")
