"""The sequences of one request on the engine, from submission until all their slots are erased.

    submitted ── released ids ──> text (held back where it must be) ──> Step
        │                                                                 │
        │  sampled ids ──> grammar ──> mask of the next position          │ finish: done
        └──────────────────────────── ERASED <────────────────────────────┘

Ids are read as far as `sampled` for the grammar only; text is made of `released` ids alone. A slot
is read before `done`, for the engine zeroes it then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.connection import EngineConnection
from engine.errors import EngineError
from engine.slot import Slot
from engine.types import (
    EngineState,
    ErrorCode,
    FinishReason,
    Logprobs,
    SamplingParams,
    VerificationCounts,
)
from server.openai.errors import ApiError, EngineFailure, InvalidRequest, Unverified
from server.openai.grammar import Matcher
from server.openai.text_stream import Piece, TextStream


@dataclass(frozen=True)
class Job:
    """One sequence to generate: `group` shares its prompt, `stream` makes its text."""

    prompt: Sequence[int]
    params: SamplingParams
    group: int
    index_in_group: int
    stream: TextStream
    matcher: Matcher | None = None


@dataclass(frozen=True)
class Step:
    """Progress of the sequence `index`: text with its log-probabilities, or its end, or both.

    `prompt_logprobs` come with the first step, if asked for: one entry for each id of the prompt
    but the first, which follows nothing.
    """

    index: int
    piece: Piece | None
    logprobs: tuple[Logprobs, ...] = ()
    finish: str | None = None
    prompt_logprobs: tuple[Logprobs, ...] = ()


class Generation:
    """Runs jobs side by side, each in a slot of its own, numbered as the jobs are."""

    def __init__(self, engine: EngineConnection, jobs: Sequence[Job]) -> None:
        self._engine = engine
        self._jobs = jobs
        self._sequences: list[_Sequence] = []

    def steps(self) -> Iterator[Step]:
        """Yield progress as it comes; ends when every slot reads ERASED.

        Raises:
            EngineFailure: a sequence failed.
            EngineGone: the engine has.
        """
        self._submit()
        while not all(sequence.erased for sequence in self._sequences):
            for index in sorted(self._engine.wait()):
                yield from self._advance(self._sequences[index])

    def _submit(self) -> None:
        slots = self._engine.open_slots(len(self._jobs))
        for index, (job, slot) in enumerate(zip(self._jobs, slots, strict=True)):
            self._sequences.append(_Sequence(index, job, slot))
            self._sequences[-1].submit()
            self._engine.wake(index)

    def _advance(self, sequence: _Sequence) -> Iterator[Step]:
        yield from sequence.advance()
        if sequence.wrote:
            sequence.wrote = False
            self._engine.wake(sequence.index)

    def completion_tokens(self) -> int:
        """Generated tokens of all sequences, each up to where its text ends."""
        return sum(sequence.job.stream.fed for sequence in self._sequences)

    def counts(self) -> Sequence[VerificationCounts]:
        """The counts of each slot; valid once erased."""
        return [sequence.slot.counts() for sequence in self._sequences]


class _Sequence:
    """One job in one slot."""

    def __init__(self, index: int, job: Job, slot: Slot) -> None:
        self.index = index
        self.job = job
        self.slot = slot
        self.erased = False
        self.wrote = False
        self._consumed = 0  # ids the grammar has seen
        self._begun = False
        self._finished = False

    def submit(self) -> None:
        """Hand prompt and parameters to the engine."""
        job = self.job
        if job.matcher is not None:
            self._set_mask(1, job.matcher)
        self.slot.submit(job.prompt, job.params, group=job.group, index_in_group=job.index_in_group)

    def advance(self) -> Iterator[Step]:
        """Take what the engine wrote.

        Raises:
            EngineFailure: the engine gave the sequence up, now or while it was read.
        """
        try:
            yield from self._advance()
        except EngineError:
            raise _failure(self.slot.error) from None

    def _advance(self) -> Iterator[Step]:
        state = self.slot.state  # read before the counters, so that no id can be missed
        if state is EngineState.FAILED:
            raise _failure(self.slot.error)
        if state is EngineState.ERASED:
            self.erased = self._erased()
        elif not self._finished:
            finish = self.slot.finish if state is EngineState.FINISHED else None
            if finish is None:
                self._constrain()
            yield from self._text(finish)

    def _erased(self) -> bool:
        if not self._finished:
            raise EngineFailure("engine_failed", "The engine dropped the request.")
        return True

    def _constrain(self) -> None:
        """Bring the grammar to the last sampled id and set the mask of the next position."""
        matcher, sampled = self.job.matcher, self.slot.sampled
        if matcher is None or sampled == self._consumed:
            return
        for token_id in self.slot.ids(self._consumed, sampled):
            matcher.consume(token_id)
        self._consumed = sampled
        self._set_mask(sampled + 1, matcher)
        self.wrote = True

    def _set_mask(self, position: int, matcher: Matcher) -> None:
        # The grammar's masks are whole words and may be a word longer than the model's ids need.
        self.slot.set_mask(position, matcher.mask()[: self.slot.geometry.mask_size])

    def _text(self, finish: FinishReason | None) -> Iterator[Step]:
        """Turn released ids to text; ends the sequence at a stop string or where the engine did."""
        stream = self.job.stream
        for token_id in self.slot.ids(stream.fed, self.slot.released):
            piece = stream.feed(token_id)
            if stream.stopped:
                yield self._end(piece, "stop")
                return
            if piece is not None:
                yield self._step(piece)
        if finish is not None:
            yield self._end(stream.flush(), _reason(finish))

    def _end(self, piece: Piece | None, reason: str) -> Step:
        step = self._step(piece, reason)
        self._finished = True
        self.slot.done()
        self.wrote = True
        return step

    def _step(self, piece: Piece | None, finish: str | None = None) -> Step:
        tokens = piece.tokens if piece and self.job.params.logprobs >= 0 else ()
        logprobs = tuple(self.slot.logprobs(token.position) for token in tokens)
        step = Step(self.index, piece, logprobs, finish, self._prompt_logprobs())
        if self.slot.finish in (FinishReason.FAILED, FinishReason.ABORTED):
            # The engine may have begun to zero what was just read.
            raise _failure(self.slot.error)
        return step

    def _prompt_logprobs(self) -> tuple[Logprobs, ...]:
        if self._begun or self.job.params.prompt_logprobs < 0:
            return ()
        self._begun = True
        return tuple(map(self.slot.prompt_logprobs, range(1, len(self.job.prompt))))


_FAILURES: Mapping[ErrorCode, tuple[str, str]] = {
    ErrorCode.NO_CANDIDATE: ("no_candidate", "The request's constraints left no token to choose."),
}


def _failure(error: ErrorCode) -> ApiError:
    """What is said of a failed sequence."""
    if error is ErrorCode.TOO_LONG:  # nor will it fit when it is sent again
        return InvalidRequest(
            "context_length_exceeded", "The request is longer than the engine has room for."
        )
    if error is ErrorCode.VERIFICATION_FAILED:
        return Unverified()
    if error is ErrorCode.UNSUPPORTED:
        return InvalidRequest(
            "unsupported_by_engine",
            "The engine behind this node is not ours and does not do what the request asks for: "
            "grammars, or parameters beyond those it is known to honour.",
        )
    other = ("engine_failed", "The engine could not finish the request.")
    return EngineFailure(*_FAILURES.get(error, other))


def _reason(finish: FinishReason) -> str:
    """The word of OpenAI for how the engine ended a sequence."""
    if finish is FinishReason.STOP:
        return "stop"
    if finish is FinishReason.LENGTH:
        return "length"
    raise _failure(ErrorCode.NONE)
