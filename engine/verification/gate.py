"""Between sampled and released: ids may leave the worker only when their step was found to hold.

    U computes a step and tells how (`engine.verification.transcript`)
    the verifier finds for each sequence: accepted or not
    accepted:   T draws from the logits, releases the ids, and takes the decision down
    rejected:   the sequence ends with VERIFICATION_FAILED, its K and V are zeroed, and the worker
                is suspect: it finishes what it has begun, begins nothing any more, and says so

What is taken down is a chain a sequence, of decisions and not of tensors, so that a receipt can
commit to it: d_0 = H(label || model digest || mode), d_t = H(d_t-1 || position || token || checks
|| outcome), SHA-256, integers little-endian, `checks` those made for the sequence so far.

T and U share the processors here, so a step is checked before the next one begins. On a device of
its own U could go on with provisional ids meanwhile; only `Gate.check` would move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.device import StepOutput
from engine.scheduler import Sequence, Work
from engine.types import VerificationCounts
from engine.verification.transcript import Transcript

LABEL = b"sottovoce decisions v1"
ACCEPTED, REJECTED = 1, 0
_NO_ID = bytes(4)


@dataclass(frozen=True)
class Checked:
    """One sequence's rows of a step, as the verifier is told.

    Attributes:
        key: which sequence; the verifier keeps its state under it.
        start: position of the first row; what was checked behind it is forgotten.
        rows: ids, int64 [rows].
        logit_rows: which of its rows logits were asked of, counted from 0, ascending.
    """

    key: Hashable
    start: int
    rows: Tensor
    logit_rows: Items[int]


class Finding(Protocol):
    """What leaves the verifier of one sequence's rows."""

    @property
    def accepted(self) -> bool:
        """Whether all of it held."""
        ...

    @property
    def checks(self) -> int:
        """How many comparisons were made."""
        ...


class Verifier(Protocol):
    """Judges steps; `engine.verification.verifier.Verifier` is one."""

    def check(self, step: Any, transcript: Transcript, logits: Tensor) -> Items[Finding]:  # noqa: ANN401 - a sequence of `Checked`
        """Judge a step; a finding a sequence, in order. The transcript is not closed."""
        ...

    def copy(self, source: Hashable, target: Hashable) -> None:
        """Let a sequence begin with another one's positions."""
        ...

    def forget(self, key: Hashable) -> None:
        """Zero what is kept of a sequence."""
        ...

    def rekey(self) -> None:
        """Draw new secrets."""
        ...


@dataclass
class _Account:
    """What is kept of a sequence."""

    checks: int
    decisions: bytes


class Gate:
    """Who may pass from sampled to released, and what is said about it."""

    def __init__(self, verifier: Verifier, *, mode: str, model_digest: bytes) -> None:
        """Stand between.

        Args:
            verifier: judges steps.
            mode: as the engine policy calls it; part of every chain.
            model_digest: likewise, 32 bytes.
        """
        self._verifier = verifier
        self._origin = hashlib.sha256(LABEL + model_digest + mode.encode()).digest()
        self._accounts: dict[Sequence, _Account] = {}
        self.suspect = False
        """Some step did not hold: nothing new is begun on this device."""

    def check(self, works: Items[Work], rows: Tensor, output: StepOutput) -> frozenset[Sequence]:
        """Judge a step before anything follows from it; returns the sequences it failed for.

        Args:
            works: what was computed.
            rows: the ids U was given, work after work.
            output: what U says; its transcript is closed on return. Without one, nothing holds.
        """
        if output.transcript is None:
            return self._failed(frozenset(work.sequence for work in works))
        # Few rows are many small operations: torch's threads would mostly wait for each other, and
        # in the way of the device's.
        few = all(work.length == work.logit_rows for work in works)
        with _torch_threads(1 if few else torch.get_num_threads()):
            findings = self._judged(works, rows, output.transcript, output.logits)
        failed = set()
        for work, finding in zip(works, findings, strict=True):
            self._account(work.sequence).checks += finding.checks
            if not finding.accepted:
                failed.add(work.sequence)
        return self._failed(frozenset(failed))

    def _judged(
        self, works: Items[Work], rows: Tensor, transcript: Transcript, logits: Tensor
    ) -> Items[Finding]:
        try:
            for work in works:
                if not work.start:  # anew: it had lost its blocks
                    self._verifier.forget(work.sequence)
            return self._verifier.check(_told(works, rows), transcript, logits)
        finally:
            transcript.close()

    def _failed(self, sequences: frozenset[Sequence]) -> frozenset[Sequence]:
        if sequences:
            self.suspect = True
            self._verifier.rekey()
        return sequences

    def pass_on(self, sequence: Sequence, first: int, ids: Tensor) -> VerificationCounts:
        """Take down that ids are released, at positions from `first` on; return what covers them.

        They are hashed where they lie, and become no Python numbers.
        """
        account = self._account(sequence)
        tokens = ids.int().contiguous().view(torch.uint8).numpy().data
        for i in range(len(ids)):
            token = tokens[4 * i : 4 * i + 4]
            account.decisions = link(account.decisions, first + i, token, account.checks, ACCEPTED)
        return self._counts(account)

    def refuse(self, sequence: Sequence) -> VerificationCounts:
        """Take down that a step of a sequence did not hold."""
        account = self._account(sequence)
        position = sequence.length
        account.decisions = link(account.decisions, position, _NO_ID, account.checks, REJECTED)
        return self._counts(account)

    def copy(self, source: Sequence, target: Sequence) -> None:
        """Let a sequence begin with the K and V of another one's prompt."""
        self._verifier.copy(source, target)

    def forget(self, sequence: Sequence) -> None:
        """Zero what is kept of a sequence."""
        self._accounts.pop(sequence, None)
        self._verifier.forget(sequence)

    def _account(self, sequence: Sequence) -> _Account:
        return self._accounts.setdefault(sequence, _Account(0, self._origin))

    @staticmethod
    def _counts(account: _Account) -> VerificationCounts:
        return VerificationCounts(account.checks, account.decisions, sent=0, hits=0, misses=0)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads, until the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def link(
    before: bytes, position: int, token: bytes | memoryview, checks: int, outcome: int
) -> bytes:
    """Return the next link of a chain of decisions; `token` is an id, u32, or zeros for none."""
    hashed = hashlib.sha256(before)
    hashed.update(position.to_bytes(4, "little"))
    hashed.update(token)
    hashed.update(checks.to_bytes(8, "little") + bytes([outcome]))
    return hashed.digest()


def _told(works: Items[Work], rows: Tensor) -> list[Checked]:
    step, at = [], 0
    for work in works:
        wanted = range(work.length - work.logit_rows, work.length)
        step.append(Checked(work.sequence, work.start, rows[at : at + work.length], wanted))
        at += work.length
    return step
