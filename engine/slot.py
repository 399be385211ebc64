"""The shared memory through which one capsule and the engine pass one sequence. Free of torch.

One memfd, little-endian, mapped by the capsule and the engine and by nobody else:

    page 0   written by the capsule: command, group, lengths, sampling parameters
    page 1   written by the engine: state, outcome, counters
    then     end-of-sequence ids, logit bias, mask       (capsule)
             prompt ids u32[max_model_len]               (capsule)
             output ids u32[max_model_len]               (engine)
             logprob rows [max_model_len]                (engine; row = position, prompt first)

Rules:
- One writer a field. The one exception is `erase`, by which the engine ends everything.
- Every field that the other side polls is one aligned machine word, written last and in one
  store (`memoryview` items are; `struct` packs little-endian integers byte by byte).
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

from engine.errors import EngineError, InvalidRequest
from engine.types import (
    MAX_EOS_IDS,
    MAX_LOGIT_BIAS,
    EngineState,
    ErrorCode,
    FinishReason,
    Logprobs,
    SamplingParams,
    VerificationCounts,
)

if sys.byteorder != "little":  # pragma: no cover - the layout is little-endian by definition
    raise ImportError("engine.slot needs a little-endian machine")

_PAGE = 4096
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

# Word (u32) indexes in the capsule's page. Fields of eight bytes sit at even words.
_COMMAND, _STOP_AT, _MASK_FOR, _INDEX = 0, 1, 2, 3
_GROUP = 4  # u64
_PROMPT_LENGTH, _EOS_COUNT, _BIAS_COUNT, _FLAGS = 6, 7, 8, 9
_MAX_NEW, _MIN_TOKENS, _TOP_K, _LOGPROBS, _PROMPT_LOGPROBS = 10, 11, 12, 13, 14
_SEED = 16  # u64
_TEMPERATURE, _TOP_P, _MIN_P = 18, 20, 22  # f64
_FREQUENCY, _PRESENCE, _REPETITION = 24, 26, 28  # f64
_IGNORE_EOS, _CONSTRAINED = 1, 2  # bits of _FLAGS

# Word indexes in the engine's page.
_STATE, _FINISH, _ERROR, _SAMPLED, _RELEASED = 1024, 1025, 1026, 1027, 1028
_CHECKS, _SENT, _HITS, _MISSES = 1030, 1032, 1034, 1036  # u64
_DECISIONS = (_PAGE + 64, _PAGE + 96)  # bytes


class Command(IntEnum):
    """What the capsule last asked for."""

    NONE = 0
    SUBMIT = 1
    CANCEL = 2
    DONE = 3


@dataclass(frozen=True)
class SlotGeometry:
    """The sizes both sides must agree on; every offset of the layout follows from them."""

    max_model_len: int
    vocab_size: int
    max_logprobs: int = 20

    @property
    def mask_size(self) -> int:
        """Bytes of one mask: a bit an id, least significant first, padded to eight bytes."""
        return -(-self.vocab_size // 64) * 8

    @property
    def row_words(self) -> int:
        """Words of one logprob row: the chosen id's, then top ids, then their logprobs."""
        return 1 + 2 * self.max_logprobs

    @property
    def eos_offset(self) -> int:
        """Where the end-of-sequence ids begin, in bytes."""
        return 2 * _PAGE

    @property
    def bias_offset(self) -> int:
        """Where the logit bias begins: all ids, then all values."""
        return self.eos_offset + 4 * MAX_EOS_IDS

    @property
    def mask_offset(self) -> int:
        """Where the mask begins."""
        return self.bias_offset + 8 * MAX_LOGIT_BIAS

    @property
    def prompt_offset(self) -> int:
        """Where the prompt ids begin."""
        return self.mask_offset + self.mask_size

    @property
    def output_offset(self) -> int:
        """Where the output ids begin."""
        return self.prompt_offset + 4 * self.max_model_len

    @property
    def rows_offset(self) -> int:
        """Where the logprob rows begin."""
        return self.output_offset + 4 * self.max_model_len

    @property
    def size(self) -> int:
        """Bytes of the whole slot, a multiple of the page size."""
        end = self.rows_offset + 4 * self.row_words * self.max_model_len
        return -(-end // _PAGE) * _PAGE


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
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("I")
        self._longs = self._bytes.cast("Q")
        self._doubles = self._bytes.cast("d")
        self._floats = self._bytes.cast("f")
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
        for view in (self._words, self._longs, self._doubles, self._floats, self._bytes):
            view.release()
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
        check_params(params, geometry)
        self._fill(geometry.prompt_offset, prompt_ids)
        self._words[_PROMPT_LENGTH] = len(prompt_ids)
        self._longs[_GROUP // 2] = group
        self._words[_INDEX] = index_in_group
        self._write_params(params)
        self._prompt_length = len(prompt_ids)
        self._words[_COMMAND] = Command.SUBMIT

    def cancel(self) -> None:
        """Ask for the end, whatever the state; the sequence's state becomes ERASED."""
        self._words[_COMMAND] = Command.CANCEL

    def done(self, stop: int | None = None) -> None:
        """Say that the ids up to `stop` (all that are sampled, if None) are all that is wanted.

        On a running sequence this ends it (a stop string was met). State becomes ERASED.
        """
        self._words[_STOP_AT] = self.sampled if stop is None else stop
        self._words[_COMMAND] = Command.DONE

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
        self._bytes[start : start + len(mask)] = mask
        self._words[_MASK_FOR] = position

    @property
    def sampled(self) -> int:
        """Output ids readable here, for grammar and stop strings only."""
        return self._words[_SAMPLED]

    @property
    def released(self) -> int:
        """Output ids that may leave the worker; never more than `sampled`."""
        return self._words[_RELEASED]

    @property
    def state(self) -> EngineState:
        """Where the sequence is."""
        state = EngineState(self._words[_STATE])
        if state is EngineState.EMPTY and self._words[_COMMAND] == Command.SUBMIT:
            return EngineState.SUBMITTED
        return state

    @property
    def finish(self) -> FinishReason | None:
        """Why no further id will come; None while some may."""
        value = self._words[_FINISH]
        return FinishReason(value) if value else None

    @property
    def error(self) -> ErrorCode:
        """The class of failure when `finish` is FAILED."""
        return ErrorCode(self._words[_ERROR])

    def ids(self, start: int, stop: int) -> list[int]:
        """Return the output ids [start, stop).

        Raises:
            EngineError: ids beyond `sampled`, or of a slot already erased, were asked for.
        """
        if not 0 <= start <= stop <= self.sampled or self._gone:
            raise EngineError("these output ids do not exist")
        first = self.geometry.output_offset // 4
        return self._words[first + start : first + stop].tolist()

    def logprobs(self, index: int) -> Logprobs:
        """Return the logprobs of output id `index`.

        Raises:
            EngineError: none were asked for, or none exist (yet, or any more).
        """
        if not 0 <= index < self.sampled or self._gone:
            raise EngineError("this output id does not exist")
        return self._row(self._prompt_length + index, self._signed(_LOGPROBS))

    def prompt_logprobs(self, index: int) -> Logprobs:
        """Return the logprobs of prompt id `index` given those before it; for index >= 1.

        They exist once `sampled` is positive or the sequence has finished.

        Raises:
            EngineError: none were asked for, or none exist (yet, or any more).
        """
        known = self.sampled > 0 or self.state is EngineState.FINISHED
        if not 0 < index < self._prompt_length or not known or self._gone:
            raise EngineError("this prompt id has no logprobs")
        return self._row(index, self._signed(_PROMPT_LOGPROBS))

    def counts(self) -> VerificationCounts:
        """Return what a receipt says about this sequence; final once the state is ERASED."""
        return VerificationCounts(
            checks=self._longs[_CHECKS // 2],
            decisions=bytes(self._bytes[slice(*_DECISIONS)]),
            sent=self._longs[_SENT // 2],
            hits=self._longs[_HITS // 2],
            misses=self._longs[_MISSES // 2],
        )

    # ---- engine side ----

    @property
    def command(self) -> Command:
        """What the capsule last asked for; an unknown value counts as CANCEL."""
        value = self._words[_COMMAND]
        return Command(value) if value <= Command.DONE else Command.CANCEL

    @property
    def mask_for(self) -> int:
        """The position the mask is for; 0 when none was written."""
        return self._words[_MASK_FOR]

    def request(self) -> SlotRequest:
        """Copy the request out and check it; ids of the prompt are checked by who copies them.

        Raises:
            InvalidRequest: a length or a parameter is out of range.
        """
        length = self._words[_PROMPT_LENGTH]
        if not 0 < length <= self.geometry.max_model_len:
            raise InvalidRequest("the prompt is empty or longer than the context")
        self._prompt_length = length
        params = self._read_params()
        check_params(params, self.geometry)
        return SlotRequest(length, params, self._longs[_GROUP // 2], self._words[_INDEX])

    def prompt_buffer(self) -> memoryview:
        """The prompt ids as they lie in the slot, int32 little-endian."""
        start = self.geometry.prompt_offset
        return self._bytes[start : start + 4 * self._prompt_length]

    def output_buffer(self) -> memoryview:
        """The room for output ids, int32[max_model_len]; `publish` makes them visible."""
        start = self.geometry.output_offset
        return self._bytes[start : start + 4 * self.geometry.max_model_len]

    def rows_buffer(self) -> memoryview:
        """The room for logprob rows, four-byte words [max_model_len, row_words]."""
        start = self.geometry.rows_offset
        size = 4 * self.geometry.row_words * self.geometry.max_model_len
        return self._bytes[start : start + size]

    def mask_buffer(self) -> memoryview:
        """The mask's bytes."""
        start = self.geometry.mask_offset
        return self._bytes[start : start + self.geometry.mask_size]

    def publish_sampled(self, sampled: int) -> None:
        """Make output ids up to `sampled` readable by the capsule."""
        self._words[_SAMPLED] = sampled

    def publish_released(self, released: int, counts: VerificationCounts) -> None:
        """Allow ids up to `released` to leave the worker, with the counts that cover them."""
        self._longs[_CHECKS // 2] = counts.checks
        self._longs[_SENT // 2] = counts.sent
        self._longs[_HITS // 2] = counts.hits
        self._longs[_MISSES // 2] = counts.misses
        self._bytes[slice(*_DECISIONS)] = counts.decisions
        self._words[_RELEASED] = released

    def set_state(
        self,
        state: EngineState,
        *,
        finish: FinishReason | None = None,
        error: ErrorCode = ErrorCode.NONE,
    ) -> None:
        """Record the outcome, if there is one, and then the state."""
        if finish is not None:
            self._words[_ERROR] = error
            self._words[_FINISH] = finish
        self._words[_STATE] = state

    def erase(self) -> None:
        """Zero everything the slot holds of the sequence; outcome and counters stay."""
        geometry = self.geometry
        rows = min(self._prompt_length + self.sampled + 1, geometry.max_model_len)
        self._zero(0, _PAGE)
        self._zero(geometry.eos_offset, geometry.prompt_offset)
        self._zero(geometry.prompt_offset, geometry.prompt_offset + 4 * self._prompt_length)
        # One id and row more than published: a step that failed may have written ahead.
        written = min(self.sampled + 1, geometry.max_model_len)
        self._zero(geometry.output_offset, geometry.output_offset + 4 * written)
        self._zero(geometry.rows_offset, geometry.rows_offset + 4 * rows * geometry.row_words)

    # ---- layout ----

    @property
    def _gone(self) -> bool:
        return self._words[_STATE] in (EngineState.FAILED, EngineState.ERASED)

    def _zero(self, start: int, stop: int) -> None:
        self._bytes[start:stop] = bytes(stop - start)

    def _fill(self, offset: int, values: Sequence[int]) -> None:
        words = self._words
        for index, value in enumerate(values, offset // 4):
            words[index] = value

    def _signed(self, field: int) -> int:
        # -1 is stored as 0, n as n + 1: the word stays unsigned.
        return self._words[field] - 1

    def _row(self, row: int, top: int) -> Logprobs:
        if top < 0:
            raise EngineError("no logprobs were asked for")
        first = self.geometry.rows_offset // 4 + row * self.geometry.row_words
        ids = self._words[first + 1 : first + 1 + top].tolist()
        values_at = first + 1 + self.geometry.max_logprobs
        values = self._floats[values_at : values_at + top].tolist()
        return Logprobs(self._floats[first], tuple(zip(ids, values, strict=True)))

    def _write_params(self, params: SamplingParams) -> None:
        words, doubles = self._words, self._doubles
        words[_MAX_NEW] = params.max_new_tokens
        words[_MIN_TOKENS] = params.min_tokens
        words[_TOP_K] = params.top_k
        words[_LOGPROBS] = params.logprobs + 1
        words[_PROMPT_LOGPROBS] = params.prompt_logprobs + 1
        words[_FLAGS] = _IGNORE_EOS * params.ignore_eos | _CONSTRAINED * params.constrained
        self._longs[_SEED // 2] = params.seed
        doubles[_TEMPERATURE // 2] = params.temperature
        doubles[_TOP_P // 2] = params.top_p
        doubles[_MIN_P // 2] = params.min_p
        doubles[_FREQUENCY // 2] = params.frequency_penalty
        doubles[_PRESENCE // 2] = params.presence_penalty
        doubles[_REPETITION // 2] = params.repetition_penalty
        words[_EOS_COUNT] = len(params.eos_ids)
        self._fill(self.geometry.eos_offset, params.eos_ids)
        words[_BIAS_COUNT] = len(params.logit_bias)
        self._fill(self.geometry.bias_offset, [token for token, _ in params.logit_bias])
        first = self.geometry.bias_offset // 4 + MAX_LOGIT_BIAS
        for index, (_, bias) in enumerate(params.logit_bias, first):
            self._floats[index] = bias

    def _read_params(self) -> SamplingParams:
        words, doubles, flags = self._words, self._doubles, self._words[_FLAGS]
        return SamplingParams(
            max_new_tokens=words[_MAX_NEW],
            min_tokens=words[_MIN_TOKENS],
            top_k=words[_TOP_K],
            logprobs=self._signed(_LOGPROBS),
            prompt_logprobs=self._signed(_PROMPT_LOGPROBS),
            ignore_eos=bool(flags & _IGNORE_EOS),
            constrained=bool(flags & _CONSTRAINED),
            seed=self._longs[_SEED // 2],
            temperature=doubles[_TEMPERATURE // 2],
            top_p=doubles[_TOP_P // 2],
            min_p=doubles[_MIN_P // 2],
            frequency_penalty=doubles[_FREQUENCY // 2],
            presence_penalty=doubles[_PRESENCE // 2],
            repetition_penalty=doubles[_REPETITION // 2],
            eos_ids=tuple(self._read_ids(self.geometry.eos_offset, _EOS_COUNT, MAX_EOS_IDS)),
            logit_bias=self._read_bias(),
        )

    def _read_ids(self, offset: int, count_field: int, most: int) -> list[int]:
        count = self._words[count_field]
        if count > most:
            raise InvalidRequest("a list in the slot is longer than its room")
        return self._words[offset // 4 : offset // 4 + count].tolist()

    def _read_bias(self) -> tuple[tuple[int, float], ...]:
        ids = self._read_ids(self.geometry.bias_offset, _BIAS_COUNT, MAX_LOGIT_BIAS)
        first = self.geometry.bias_offset // 4 + MAX_LOGIT_BIAS
        values = self._floats[first : first + len(ids)].tolist()
        return tuple(zip(ids, values, strict=True))


def check_params(params: SamplingParams, geometry: SlotGeometry) -> None:
    """Check what only the geometry can say about parameters.

    Raises:
        InvalidRequest: an id is outside the vocabulary, or more logprobs are wanted than fit.
    """
    if max(params.logprobs, params.prompt_logprobs) > geometry.max_logprobs:
        raise InvalidRequest("more logprobs than a slot has room for")
    named = (*params.eos_ids, *(token for token, _ in params.logit_bias))
    if any(token >= geometry.vocab_size for token in named):
        raise InvalidRequest("an end-of-sequence or logit_bias id is outside the vocabulary")
