"""The engine: T and U, the queue between them, and the life of a slot.

A step is `schedule`, then U runs the plan's rows (and those of proposed ids, where there is
speculation), then T draws from the logits. Where U is verified, what was drawn is released when its
step is settled (`engine.verification.gate`): before the next one, or while that is computed. Slots
are looked at between steps only, so cancelling takes effect after at most one step.

Whatever ends a sequence, the order is the same: K and V are zeroed, T's row is zeroed, then the
slot, and its state says so last.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import torch

from engine.attention import Span
from engine.device import Device, StepInput
from engine.errors import InvalidRequest
from engine.scheduler import Plan, Scheduler, Sequence, Work
from engine.slot import Command, Slot
from engine.speculative_steps import Speculation
from engine.trusted import Ending, TrustedSide
from engine.types import EngineState, ErrorCode, FinishReason
from engine.verification.gate import Gate, Provisional, told


@dataclass
class _Entry:
    """A slot the engine knows, and the sequence it carries while that runs."""

    slot: Slot
    state: EngineState = EngineState.EMPTY
    sequence: Sequence | None = None


class Engine:
    """Runs the sequences of all slots. Not thread-safe; one thread owns it.

    `changed` is called with a slot's key whenever its capsule should look.
    """

    def __init__(
        self,
        device: Device,
        trusted: TrustedSide,
        scheduler: Scheduler,
        changed: Callable[[Any], None],
        speculation: Speculation | None = None,
        *,
        gate: Gate | None = None,
    ) -> None:
        self._gate = gate
        self._speculation = speculation
        self._device = device
        self._trusted = trusted
        self._scheduler = scheduler
        self._changed = changed
        self._entries: dict[Hashable, _Entry] = {}
        self._arrivals = 0

    @property
    def busy(self) -> bool:
        """Some sequence is queued or running; a step may still find everyone waiting."""
        return bool(self._scheduler.waiting or self._scheduler.running)

    @property
    def suspect(self) -> bool:
        """A step of the device did not verify: what is submitted from now on fails."""
        return self._gate is not None and self._gate.suspect

    def register(self, key: Hashable, slot: Slot) -> None:
        """Take a slot under a key of the caller's; the slot is closed by `drop`."""
        self._entries[key] = _Entry(slot)

    def look(self, key: Hashable, group_scope: Hashable) -> None:
        """Do what a slot's command asks for. Groups of different scopes never meet."""
        entry = self._entries[key]
        command = entry.slot.command
        if entry.state is EngineState.EMPTY and command is Command.SUBMIT:
            self._submit(key, entry, group_scope)
        elif command in (Command.CANCEL, Command.DONE):
            self._end(key, entry, command)

    def drop(self, key: Hashable) -> None:
        """End a slot whose capsule is gone, and let go of it."""
        entry = self._entries[key]
        self._end(key, entry, Command.CANCEL)
        entry.slot.close()
        del self._entries[key]

    def step(self) -> bool:
        """Run one step; False if nothing could run until some capsule acts.

        A failure of one sequence ends that sequence; a failure of the step ends those in it.
        """
        plan = self._scheduler.schedule()
        for sequence in plan.failed:
            self._finish(Ending(sequence, FinishReason.FAILED, ErrorCode.STEP_FAILED))
            self._changed(sequence.key)
        for sequence in plan.admitted:
            self._admit(sequence)
        works = [work for work in plan.works if work.sequence.row is not None]
        if not works:
            return self._conclude() or bool(plan.admitted or plan.failed)
        try:
            endings = self._run(plan, works)
        except Exception:  # noqa: BLE001 - whatever it was: its sequences end, the others go on
            endings = self._broken(works)
        finally:
            self._device.finish_step()
            self._trusted.finish_step()
            if self._speculation:
                self._speculation.proposer.finish_step()
        for ending in endings:
            self._finish(ending)
        for work in works:
            self._changed(work.sequence.key)
        return True

    def _broken(self, works: list[Work]) -> list[Ending]:
        """End the sequences of a step that broke, and of one that waits to be released."""
        held = [] if self._gate is None else self._gate.abandon()
        sequences = dict.fromkeys([*(work.sequence for work in works), *held])
        return [Ending(each, FinishReason.FAILED, ErrorCode.STEP_FAILED) for each in sequences]

    def _submit(self, key: Hashable, entry: _Entry, group_scope: Hashable) -> None:
        slot = entry.slot
        if self.suspect:
            error = ErrorCode.VERIFICATION_FAILED
            self._set(entry, EngineState.FAILED, FinishReason.FAILED, error)
            self._changed(key)
            return
        try:
            request = slot.request()
        except InvalidRequest:
            self._set(entry, EngineState.FAILED, FinishReason.FAILED, ErrorCode.INVALID_REQUEST)
            self._changed(key)
            return
        limit = request.prompt_length + request.params.max_new_tokens
        self._arrivals += 1
        entry.sequence = Sequence(
            slot=slot,
            params=request.params,
            prompt_length=request.prompt_length,
            limit=min(limit, slot.geometry.max_model_len),
            group=(group_scope, request.group),
            arrival=self._arrivals,
            key=key,
        )
        self._scheduler.add(entry.sequence)
        self._set(entry, EngineState.QUEUED)

    def _admit(self, sequence: Sequence) -> None:
        """Give a newly admitted sequence its row, or end it."""
        try:
            self._trusted.admit(sequence)
        except InvalidRequest:
            failure = Ending(sequence, FinishReason.FAILED, ErrorCode.INVALID_REQUEST)
            self._finish(failure)
            self._changed(sequence.key)
            return
        self._set(self._entries[sequence.key], EngineState.RUNNING)

    def _run(self, plan: Plan, works: list[Work]) -> list[Ending]:
        if plan.copies:
            self._conclude()
        for copy in plan.copies:
            if copy.sequence.row is not None:
                self._device.copy_blocks(copy.source, copy.target)
                if self._gate is not None:
                    self._gate.copy(copy.first, copy.sequence)
        if self._speculation is None:
            return self._compute(works, {})
        works = self._speculation.widen(works)
        endings = self._compute(works, self._speculation.proposer.beliefs())
        self._speculation.settle(works)
        return endings

    def _compute(self, works: list[Work], beliefs: dict[Sequence, torch.Tensor]) -> list[Ending]:
        spans = [Span(work.sequence.blocks, work.start, work.length) for work in works]
        batch = StepInput(self._trusted.inputs(works), spans, _logit_rows(works))
        if self._gate is None:
            output = self._device.step(batch)
            drawn, endings = self._trusted.accept(works, output.logits, beliefs)
            self._trusted.release(drawn)
        else:
            endings = self._verified(self._gate, works, batch, beliefs)
        for work in works:
            # The id drawn last has no K and V yet; those of rejected proposals are not its own.
            last = work.sequence.length - 1
            work.sequence.computed = min(work.start + work.length, last)
        return endings

    def _verified(
        self,
        gate: Gate,
        works: list[Work],
        batch: StepInput,
        beliefs: dict[Sequence, torch.Tensor],
    ) -> list[Ending]:
        """Run a step while the one before is checked, and hold what is drawn from it."""
        step = told(works, batch.rows)
        gate.begin()
        output = self._device.step(batch)
        refused = self._settle(gate)
        logits = output.logits.clone()  # drawing overwrites them
        gone = {ending.sequence for ending in refused}
        drawn, endings = self._trusted.accept(works, output.logits, beliefs, gone)
        stays = gate.hold(Provisional(step, replace(output, logits=logits), drawn))
        if refused or endings or not stays:
            refused += self._settle(gate, gone)
        gone = {ending.sequence for ending in refused}
        return refused + [ending for ending in endings if ending.sequence not in gone]

    def _settle(self, gate: Gate, gone: AbstractSet[Sequence] = frozenset()) -> list[Ending]:
        """Release what the step that is held gave; return the endings of those it failed for."""
        drawn, failed = gate.settle()
        self._trusted.release([each for each in drawn if each.sequence not in failed])
        for each in drawn:
            self._changed(each.sequence.key)
        return [self._trusted.refuse(gate, sequence) for sequence in failed - gone]

    def _conclude(self) -> bool:
        """Settle the step that is held, between steps; returns whether there was any."""
        if self._gate is None or not self._gate.holding:
            return False
        try:
            endings = self._settle(self._gate)
        except Exception:  # noqa: BLE001 - as in `step`
            endings = self._broken([])
        for ending in endings:
            self._finish(ending)
            self._changed(ending.sequence.key)
        return True

    def _finish(self, ending: Ending) -> None:
        """End a sequence by itself; ids stay readable unless it failed."""
        entry = self._entries[ending.sequence.key]
        self._forget(entry)
        failed = ending.finish is FinishReason.FAILED
        if failed:
            entry.slot.erase()
        state = EngineState.FAILED if failed else EngineState.FINISHED
        self._set(entry, state, ending.finish, ending.error)

    def _end(self, key: Hashable, entry: _Entry, command: Command) -> None:
        """End a slot because its capsule wants that."""
        if entry.state is EngineState.ERASED:
            return
        finish = None
        if entry.sequence is not None or entry.state is EngineState.EMPTY:
            stopped = command is Command.DONE
            finish = FinishReason.STOP if stopped else FinishReason.ABORTED
        self._forget(entry)
        entry.slot.erase()
        self._set(entry, EngineState.ERASED, finish)
        self._changed(key)

    def _forget(self, entry: _Entry) -> None:
        sequence, gate = entry.sequence, self._gate
        if sequence is not None and gate is not None and gate.holds(sequence):
            self._conclude()
        if entry.sequence is not None:
            self._scheduler.remove(entry.sequence)
            self._trusted.erase(entry.sequence)
            if self._gate is not None:
                self._gate.forget(entry.sequence)
            entry.sequence = None

    def _set(
        self,
        entry: _Entry,
        state: EngineState,
        finish: FinishReason | None = None,
        error: ErrorCode = ErrorCode.NONE,
    ) -> None:
        entry.state = state
        entry.slot.set_state(state, finish=finish, error=error)


def _logit_rows(works: list[Work]) -> list[int]:
    rows: list[int] = []
    at = 0
    for work in works:
        at += work.length
        rows.extend(range(at - work.logit_rows, at))
    return rows
