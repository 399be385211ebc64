"""Between drawn and released: ids may leave the worker only when their step was found to hold.

    U computes a step and tells how (`engine.verification.transcript`)
    T draws from its logits at once: the ids are provisional, and the next step goes on from them
    the verifier finds for each sequence: accepted or not
    accepted:   T releases the ids, and takes the decision down
    rejected:   the sequence ends with VERIFICATION_FAILED, its K and V are zeroed, and the worker
                is suspect: it finishes what it has begun, begins nothing any more, and says so

A step is held until it is settled, one at a time. Where checking is worth a thread, a step of
decoded rows is checked while U computes the next one: ids leave one step after they were drawn.
A step with prompts in it, or with which something ends, is settled before anything follows.

What is taken down is a chain a sequence, of decisions and not of tensors, so that a receipt can
commit to it: d_0 = H(label || model digest || mode), d_t = H(d_t-1 || position || token || checks
|| outcome), SHA-256, integers little-endian, `checks` those made for the sequence so far.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from engine.device import StepOutput
from engine.scheduler import Sequence, Work
from engine.types import VerificationCounts
from engine.verification.transcript import Transcript

LABEL = b"sottovoce decisions v1"
ACCEPTED, REJECTED = 1, 0
_NO_ID = bytes(4)
_SWITCH = 1e-4
"""Seconds after which Python's threads change over, where there are two."""


@dataclass(frozen=True)
class Checked:
    """One sequence's rows of a step, as the verifier is told.

    Attributes:
        key: which sequence; the verifier keeps its state under it.
        start: position of the first row; what was checked behind it is forgotten.
        rows: ids, int64 [rows].
        logit_rows: which of its rows logits were asked of, counted from 0, ascending.
    """

    key: Sequence
    start: int
    rows: Tensor
    logit_rows: Items[int]

    @property
    def decoding(self) -> bool:
        """Logits were asked of every row, as of decoded ones."""
        return len(self.logit_rows) == len(self.rows)


@dataclass(frozen=True)
class Drawn:
    """What was drawn for a sequence in one step.

    Attributes:
        sequence: whose.
        ids: int64 [ids].
        sampled: output ids that the sequence has with these.
    """

    sequence: Sequence
    ids: np.ndarray
    sampled: int


@dataclass(frozen=True)
class Provisional:
    """A step that was drawn from, and is not yet found to hold.

    Attributes:
        step: its rows, sequence after sequence; copies.
        output: what U says; the logits are a copy, the transcript is closed once it is judged.
        drawn: what may be released then.
    """

    step: Items[Checked]
    output: StepOutput
    drawn: Items[Drawn]

    @property
    def decoding(self) -> bool:
        """No prompt is in it."""
        return all(each.decoding for each in self.step)


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

    def copy(self, source: Sequence, target: Sequence) -> None:
        """Let a sequence begin with another one's positions."""
        ...

    def forget(self, key: Sequence) -> None:
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

    def __init__(
        self,
        verifier: Verifier,
        *,
        mode: str,
        model_digest: bytes,
        beside: bool = False,
        alarm: Callable[[], None] | None = None,
    ) -> None:
        """Stand between.

        Args:
            verifier: judges steps.
            mode: as the engine policy calls it; part of every chain.
            model_digest: likewise, 32 bytes.
            beside: whether steps are checked on a thread of their own while U computes the next.
            alarm: called, once, when a step did not hold.
        """
        self._verifier, self._alarm = verifier, alarm
        self._origin = hashlib.sha256(LABEL + model_digest + mode.encode()).digest()
        self._accounts: dict[Sequence, _Account] = {}
        self._beside = ThreadPoolExecutor(1, "verification") if beside else None
        if beside:  # who calls the device must not wait long for the interpreter's lock
            sys.setswitchinterval(_SWITCH)
        self._held: Provisional | None = None
        self._checking: Future[frozenset[Sequence]] | None = None
        self.suspect = False
        """Some step did not hold: nothing new is begun on this device."""

    def hold(self, step: Provisional) -> bool:
        """Take a step; returns whether it may stay while the next one is computed.

        The one before was settled.
        """
        self._held = step
        return self._beside is not None and step.decoding

    @property
    def holding(self) -> bool:
        """Some step is held."""
        return self._held is not None

    def holds(self, sequence: Sequence) -> bool:
        """Whether the step that is held has rows of a sequence."""
        return self._held is not None and any(each.key is sequence for each in self._held.step)

    def begin(self) -> None:
        """Begin to check the step that is held, beside whatever else happens until `settle`."""
        if self._held is not None and self._beside is not None:
            self._checking = self._beside.submit(self._check, self._held)

    def settle(self) -> tuple[Items[Drawn], frozenset[Sequence]]:
        """Let go of the step that is held: return what was drawn, and for whom it failed."""
        held = self._held
        if held is None:
            return (), frozenset()
        failed = self._check(held) if self._checking is None else self._checking.result()
        self._held = self._checking = None
        return held.drawn, failed

    def abandon(self) -> list[Sequence]:
        """Let go of the step that is held, unchecked, and return its sequences: they must end."""
        held, checking = self._held, self._checking
        self._held = self._checking = None
        if checking is not None:
            with suppress(Exception):  # the one that it is abandoned for
                checking.result()
        if held is None:
            return []
        if held.output.transcript is not None:
            held.output.transcript.close()
        return [each.key for each in held.step]

    def _check(self, held: Provisional) -> frozenset[Sequence]:
        """Judge a step, and close its transcript. Without one, nothing holds."""
        step, transcript = held.step, held.output.transcript
        if transcript is None:
            return self._failed(frozenset(each.key for each in step))
        # Few rows are many small operations: torch's threads would mostly wait for each other, and
        # in the way of the device's.
        with _torch_threads(1 if held.decoding else torch.get_num_threads()):
            findings = self._judged(step, transcript, held.output.logits)
        failed = set()
        for each, finding in zip(step, findings, strict=True):
            self._account(each.key).checks += finding.checks
            if not finding.accepted:
                failed.add(each.key)
        return self._failed(frozenset(failed))

    def _judged(
        self, step: Items[Checked], transcript: Transcript, logits: Tensor
    ) -> Items[Finding]:
        try:
            for each in step:
                if not each.start:  # anew: it had lost its blocks
                    self._verifier.forget(each.key)
            return self._verifier.check(step, transcript, logits)
        finally:
            transcript.close()

    def _failed(self, sequences: frozenset[Sequence]) -> frozenset[Sequence]:
        if sequences:
            if self._alarm is not None and not self.suspect:
                self._alarm()
            self.suspect = True
            self._verifier.rekey()
        return sequences

    def pass_on(self, sequence: Sequence, first: int, ids: np.ndarray) -> VerificationCounts:
        """Take down that ids are released, at positions from `first` on; return what covers them.

        They are hashed where they lie, and become no Python numbers.
        """
        account = self._account(sequence)
        tokens = torch.from_numpy(ids).int().view(torch.uint8).numpy().data
        for i in range(len(ids)):
            token = tokens[4 * i : 4 * i + 4]
            account.decisions = link(account.decisions, first + i, token, account.checks, ACCEPTED)
        return self._counts(account)

    def refuse(self, sequence: Sequence, position: int) -> VerificationCounts:
        """Take down that a step of a sequence did not hold, whose first id is at `position`."""
        account = self._account(sequence)
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


def told(works: Items[Work], rows: Tensor) -> list[Checked]:
    """Return what a step is checked as, before anything is drawn from it.

    Args:
        works: what is computed.
        rows: the ids U is given, work after work; copied.
    """
    step, at = [], 0
    for work in works:
        wanted = range(work.length - work.logit_rows, work.length)
        own = rows[at : at + work.length].clone()
        step.append(Checked(work.sequence, work.start, own, wanted))
        at += work.length
    return step
