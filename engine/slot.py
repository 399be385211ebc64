"""The shared memory through which one capsule and the engine pass one sequence. Free of torch.

One memfd, mapped by the capsule and the engine and by nobody else; `engine.slot_layout` says what
lies where. Rules:

- One writer a field. The one exception is `erase`, by which the engine ends everything.
- Every field that the other side polls is one aligned machine word, written last and in one
  store.
- The memfd is sealed against shrinking, so that neither side can make the other fault.
- The engine believes nothing it reads here: lengths and parameters are copied out once and
  checked, ids are checked where they are used.
- One slot carries one sequence, once.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from engine import slot_layout as layout
from engine.errors import EngineError, InvalidRequest
from engine.slot_layout import SlotGeometry, SlotViews
from engine.types import (
    EngineState,
    ErrorCode,
    FinishReason,
    Logprobs,
    SamplingParams,
    VerificationCounts,
)

__all__ = ["Command", "Slot", "SlotGeometry", "SlotRequest"]

if sys.byteorder != "little":  # pragma: no cover - the layout is little-endian by definition
    raise ImportError("engine.slot needs a little-endian machine")

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Command(IntEnum):
    """What the capsule last asked for."""

    NONE = 0
    SUBMIT = 1
    CANCEL = 2
    DONE = 3


@dataclass(frozen=True)
class SlotRequest:
    """What the engine copied out of a submitted slot. The prompt itself stays in the slot."""

    prompt_length: int
    params: SamplingParams
    group: int
    index_in_group: int


class Slot:
    """One mapped slot. Made by `create` in the capsule and by `attach` in the engine."""

    def __init__(self, fd: int, geometry: SlotGeometry) -> None:
        self.fd = fd
        self.geometry = geometry
        self._map = mmap.mmap(fd, geometry.size)
        self._views = SlotViews(memoryview(self._map))
        self._prompt_length = 0

    @classmethod
    def create(cls, geometry: SlotGeometry) -> Slot:
        """Make a new, zeroed, sealed slot."""
        fd = os.memfd_create("slot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, geometry.size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return cls(fd, geometry)

    @classmethod
    def attach(cls, fd: int, geometry: SlotGeometry) -> Slot:
        """Map a slot made elsewhere. The descriptor belongs to the slot from here on.

        Raises:
            InvalidRequest: not a sealed memfd of exactly this geometry (`fd` is closed).
        """
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
            sound = seals & _SEALS == _SEALS and os.fstat(fd).st_size == geometry.size
        except OSError:
            sound = False
        if not sound:
            os.close(fd)
            raise InvalidRequest("the slot is not a sealed memfd of the agreed size")
        return cls(fd, geometry)

    def close(self) -> None:
        """Unmap and close. Buffers taken from this slot must not be used afterwards."""
        self._views.release()
        self._map.close()
        os.close(self.fd)

    # ---- capsule side ----

    def submit(
        self, prompt_ids: Sequence[int], params: SamplingParams, *, group: int, index_in_group: int
    ) -> None:
        """Write a request; the engine looks when it is woken.

        Slots of one capsule with equal `group` promise equal prompts and share their prefill.

        Raises:
            InvalidRequest: the prompt is empty or too long, an id or a wish for logprobs is out
                of the geometry's range.
            EngineError: the slot was used before.
        """
        if self.state is not EngineState.EMPTY:
            raise EngineError("a slot carries one sequence, once")
        geometry = self.geometry
        if not 0 < len(prompt_ids) <= geometry.max_model_len:
            raise InvalidRequest("the prompt is empty or longer than the context")
        if min(prompt_ids) < 0 or max(prompt_ids) >= geometry.vocab_size:
            raise InvalidRequest("a prompt id is outside the vocabulary")
        layout.check_params(params, geometry)
        self._views.fill(geometry.prompt_offset, prompt_ids)
        self._views.words[layout.PROMPT_LENGTH] = len(prompt_ids)
        self._views.longs[layout.GROUP // 2] = group
        self._views.words[layout.INDEX] = index_in_group
        layout.write_params(self._views, geometry, params)
        self._prompt_length = len(prompt_ids)
        self._views.words[layout.COMMAND] = Command.SUBMIT

    def cancel(self) -> None:
        """Ask for the end, whatever the state; the sequence's state becomes ERASED."""
        self._views.words[layout.COMMAND] = Command.CANCEL

    def done(self, stop: int | None = None) -> None:
        """Say that the ids up to `stop` (all that are sampled, if None) are all that is wanted.

        On a running sequence this ends it (a stop string was met). State becomes ERASED.
        """
        self._views.words[layout.STOP_AT] = self.sampled if stop is None else stop
        self._views.words[layout.COMMAND] = Command.DONE

    def set_mask(self, position: int, mask: bytes) -> None:
        """Allow for output id number `position` (counted from 1) the ids whose bit is set.

        Raises:
            InvalidRequest: the mask is not `vocab_size` bits long, rounded up to whole bytes
                or to the slot's own padding.
            EngineError: `position` is not the next id (`sampled` + 1): the row may be in use.
        """
        shortest = -(-self.geometry.vocab_size // 8)
        if not shortest <= len(mask) <= self.geometry.mask_size:
            raise InvalidRequest("the mask does not have one bit an id")
        if position != self.sampled + 1:
            raise EngineError("a mask is for the next id only")
        start = self.geometry.mask_offset
        self._views.bytes[start : start + len(mask)] = mask
        self._views.words[layout.MASK_FOR] = position

    @property
    def sampled(self) -> int:
        """Output ids readable here, for grammar and stop strings only."""
        return self._views.words[layout.SAMPLED]

    @property
    def released(self) -> int:
        """Output ids that may leave the worker; never more than `sampled`."""
        return self._views.words[layout.RELEASED]

    @property
    def state(self) -> EngineState:
        """Where the sequence is."""
        state = EngineState(self._views.words[layout.STATE])
        if state is EngineState.EMPTY and self._views.words[layout.COMMAND] == Command.SUBMIT:
            return EngineState.SUBMITTED
        return state

    @property
    def finish(self) -> FinishReason | None:
        """Why no further id will come; None while some may."""
        value = self._views.words[layout.FINISH]
        return FinishReason(value) if value else None

    @property
    def error(self) -> ErrorCode:
        """The class of failure when `finish` is FAILED."""
        return ErrorCode(self._views.words[layout.ERROR])

    def ids(self, start: int, stop: int) -> list[int]:
        """Return the output ids [start, stop).

        Raises:
            EngineError: ids beyond `sampled`, or of a slot already erased, were asked for.
        """
        if not 0 <= start <= stop <= self.sampled or self._gone:
            raise EngineError("these output ids do not exist")
        first = self.geometry.output_offset // 4
        return self._views.words[first + start : first + stop].tolist()

    def logprobs(self, index: int) -> Logprobs:
        """Return the logprobs of output id `index`.

        Raises:
            EngineError: none were asked for, or none exist (yet, or any more).
        """
        if not 0 <= index < self.sampled or self._gone:
            raise EngineError("this output id does not exist")
        return self._row(self._prompt_length + index, self._views.signed(layout.LOGPROBS))

    def prompt_logprobs(self, index: int) -> Logprobs:
        """Return the logprobs of prompt id `index` given those before it; for index >= 1.

        They exist once `sampled` is positive or the sequence has finished.

        Raises:
            EngineError: none were asked for, or none exist (yet, or any more).
        """
        known = self.sampled > 0 or self.state is EngineState.FINISHED
        if not 0 < index < self._prompt_length or not known or self._gone:
            raise EngineError("this prompt id has no logprobs")
        return self._row(index, self._views.signed(layout.PROMPT_LOGPROBS))

    def counts(self) -> VerificationCounts:
        """Return what a receipt says about this sequence; final once the state is ERASED."""
        return VerificationCounts(
            checks=self._views.longs[layout.CHECKS // 2],
            decisions=bytes(self._views.bytes[slice(*layout.DECISIONS)]),
            sent=self._views.longs[layout.SENT // 2],
            hits=self._views.longs[layout.HITS // 2],
            misses=self._views.longs[layout.MISSES // 2],
        )

    # ---- engine side ----

    @property
    def command(self) -> Command:
        """What the capsule last asked for; an unknown value counts as CANCEL."""
        value = self._views.words[layout.COMMAND]
        return Command(value) if value <= Command.DONE else Command.CANCEL

    @property
    def mask_for(self) -> int:
        """The position the mask is for; 0 when none was written."""
        return self._views.words[layout.MASK_FOR]

    def request(self) -> SlotRequest:
        """Copy the request out and check it; ids of the prompt are checked by who copies them.

        Raises:
            InvalidRequest: a length or a parameter is out of range.
        """
        length = self._views.words[layout.PROMPT_LENGTH]
        if not 0 < length <= self.geometry.max_model_len:
            raise InvalidRequest("the prompt is empty or longer than the context")
        self._prompt_length = length
        params = layout.read_params(self._views, self.geometry)
        return SlotRequest(
            length, params, self._views.longs[layout.GROUP // 2], self._views.words[layout.INDEX]
        )

    def prompt_buffer(self) -> memoryview:
        """The prompt ids as they lie in the slot, int32 little-endian."""
        start = self.geometry.prompt_offset
        return self._views.bytes[start : start + 4 * self._prompt_length]

    def output_buffer(self) -> memoryview:
        """The room for output ids, int32[max_model_len]; `publish` makes them visible."""
        start = self.geometry.output_offset
        return self._views.bytes[start : start + 4 * self.geometry.max_model_len]

    def rows_buffer(self) -> memoryview:
        """The room for logprob rows, four-byte words [max_model_len, row_words]."""
        start = self.geometry.rows_offset
        size = 4 * self.geometry.row_words * self.geometry.max_model_len
        return self._views.bytes[start : start + size]

    def mask_buffer(self) -> memoryview:
        """The mask's bytes."""
        start = self.geometry.mask_offset
        return self._views.bytes[start : start + self.geometry.mask_size]

    def publish_sampled(self, sampled: int) -> None:
        """Make output ids up to `sampled` readable by the capsule."""
        self._views.words[layout.SAMPLED] = sampled

    def publish_released(self, released: int, counts: VerificationCounts) -> None:
        """Allow ids up to `released` to leave the worker, with the counts that cover them."""
        self._views.longs[layout.CHECKS // 2] = counts.checks
        self._views.longs[layout.SENT // 2] = counts.sent
        self._views.longs[layout.HITS // 2] = counts.hits
        self._views.longs[layout.MISSES // 2] = counts.misses
        self._views.bytes[slice(*layout.DECISIONS)] = counts.decisions
        self._views.words[layout.RELEASED] = released

    def set_state(
        self,
        state: EngineState,
        *,
        finish: FinishReason | None = None,
        error: ErrorCode = ErrorCode.NONE,
    ) -> None:
        """Record the outcome, if there is one, and then the state."""
        if finish is not None:
            self._views.words[layout.ERROR] = error
            self._views.words[layout.FINISH] = finish
        self._views.words[layout.STATE] = state

    def erase(self) -> None:
        """Zero everything the slot holds of the sequence; outcome and counters stay."""
        geometry = self.geometry
        # More than is published: a step that failed may have written ahead.
        written = min(self.sampled + layout.MAX_STEP_IDS, geometry.max_model_len)
        rows = min(self._prompt_length + written, geometry.max_model_len)
        self._zero(0, layout.PAGE)
        self._zero(geometry.eos_offset, geometry.prompt_offset)
        self._zero(geometry.prompt_offset, geometry.prompt_offset + 4 * self._prompt_length)
        self._zero(geometry.output_offset, geometry.output_offset + 4 * written)
        self._zero(geometry.rows_offset, geometry.rows_offset + 4 * rows * geometry.row_words)

    # ---- layout ----

    @property
    def _gone(self) -> bool:
        return self._views.words[layout.STATE] in (EngineState.FAILED, EngineState.ERASED)

    def _zero(self, start: int, stop: int) -> None:
        self._views.bytes[start:stop] = bytes(stop - start)

    def _row(self, row: int, top: int) -> Logprobs:
        if top < 0:
            raise EngineError("no logprobs were asked for")
        first = self.geometry.rows_offset // 4 + row * self.geometry.row_words
        ids = self._views.words[first + 1 : first + 1 + top].tolist()
        values_at = first + 1 + self.geometry.max_logprobs
        values = self._views.floats[values_at : values_at + top].tolist()
        return Logprobs(self._views.floats[first], tuple(zip(ids, values, strict=True)))
