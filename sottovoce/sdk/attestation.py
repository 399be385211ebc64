"""What comes back with an answer, typed: `completion.attestation`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from attestation.verdict import Outcome


class _Member(BaseModel):
    # A later version may say more; what is known keeps its type.
    model_config = ConfigDict(extra="allow", frozen=True)


class Step(_Member):
    """One thing that was checked."""

    step: str
    outcome: Outcome
    reason: str


class Salts(_Member):
    """The salts of the receipt's two hashes, base64."""

    request: str
    response: str


class Attestation(_Member):
    """The evidence of one answer, and what verifying it found.

    An answer whose verification fails is an error and never gets here: what does holds no step that
    failed, but maybe some that were skipped.
    """

    receipt: str
    """The node's signed receipt (COSE_Sign1), base64."""
    salts: Salts
    quote: str
    """The platform's quote over the node's key document, base64."""
    node: str
    platform: str
    verification: tuple[Step, ...]

    @property
    def skipped(self) -> tuple[Step, ...]:
        """The steps that were not done, and why."""
        return tuple(step for step in self.verification if step.outcome is Outcome.SKIP)

    @property
    def outcome(self) -> Outcome:
        """The weakest outcome of all steps: a skipped step is never a pass."""
        found = {step.outcome for step in self.verification}
        return next((each for each in (Outcome.FAIL, Outcome.SKIP) if each in found), Outcome.PASS)

    @property
    def simulated(self) -> bool:
        """Whether the node ran on ordinary hardware: then nothing kept its owner from reading."""
        return self.platform == "simulated"


def attestation_of(answer: object) -> Attestation | None:
    """Return the attestation of an answer, a chunk or an event; None if it carries none.

    The same object as `answer.attestation`, for programs whose types are checked.
    """
    found = getattr(answer, "attestation", None)
    return found if isinstance(found, Attestation) else None
