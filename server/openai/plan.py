"""A request on its way through the engine, from prompts and parameters to payloads.

The shape of choices differs by endpoint (`Answer`); everything else about an answer, streamed or
whole, is here: one id, the role of the last payload, and what happens when the engine fails.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.connection import EngineConnection
from engine.types import SamplingParams, VerificationCounts
from server.openai import budget
from server.openai import counts as counting
from server.openai.errors import ApiError, EngineFailure, error_body
from server.openai.generation import Generation, Job, Step
from server.openai.grammar import Constraint
from server.openai.outputs import DONE, Body, Event, Head, Output, Usage
from server.openai.payloads import Frame, encode, random_id, usage_members
from server.openai.sampling import choice_seed
from server.openai.text_stream import TextStream

Json = dict[str, Any]

JSON_HEAD = Head(200, ((b"content-type", b"application/json"),))
STREAM_HEAD = Head(200, ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")))


class Answer(ABC):
    """The choices of one answer. Built for one request, fed with the steps of its sequences."""

    id_prefix: str
    whole_object: str
    chunk_object: str

    @abstractmethod
    def entries(self, step: Step) -> list[Json]:
        """The entries of `choices` that a step adds to a stream, one chunk each."""

    @abstractmethod
    def whole(self, entries: Sequence[Json]) -> list[Json]:
        """The `choices` of a whole answer, put together from all entries of its stream."""


@dataclass(frozen=True)
class Terms:
    """What a request asked of the engine: its prompts, each with `choices` completions."""

    prompts: Sequence[Sequence[int]]
    choices: int
    params: SamplingParams
    seed: int | None
    tokens_needed: int
    token_budget: int
    new_stream: Callable[[], TextStream]
    constraint: Constraint | None = None

    def jobs(self, rng_seed: Callable[[], int]) -> list[Job]:
        """The sequences to generate, choice by choice, prompt by prompt."""
        return [
            Job(
                prompt,
                replace(self.params, seed=choice_seed(self.seed, choice, rng_seed)),
                group,
                choice,
                self.new_stream(),
                self.constraint.start() if self.constraint else None,
            )
            for group, prompt in enumerate(self.prompts)
            for choice in range(self.choices)
        ]


class GenerationPlan:
    """The plan of a chat or text completion. See `outputs.Plan` for its promises."""

    def __init__(
        self,
        terms: Terms,
        answer: Answer,
        *,
        model: str,
        fingerprint: str | None,
        streamed: bool,
        include_usage: bool,
    ) -> None:
        self._terms = terms
        self._answer = answer
        self._model = model
        self._fingerprint = fingerprint
        self._include_usage = include_usage
        self._generation: Generation | None = None
        self._streamed = streamed

    @property
    def tokens_needed(self) -> int:
        """The tokens this request costs."""
        return self._terms.tokens_needed

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream."""
        return self._streamed

    def run(
        self, engine: EngineConnection, rng_seed: Callable[[], int], now: int
    ) -> Iterator[Output]:
        """Compute the answer.

        Raises:
            ApiError: the engine failed; in a stream, after an Event that says so.
        """
        frame = Frame(random_id(self._answer.id_prefix), now, self._model, self._fingerprint)
        outputs = self._stream if self._streamed else self._whole
        begun = False
        try:
            for output in outputs(frame, self._steps(engine, rng_seed)):
                begun = True
                yield output
        except ApiError as error:
            failure = error
        except Exception:  # noqa: BLE001 - see below
            # A decision: whatever else fails here holds the request in its frames, and may quote
            # it. What leaves says only that it failed.
            failure = EngineFailure("internal_error", "The node failed to answer.")
        else:
            return
        if begun:
            yield Event(error_body(failure))
        raise failure

    def _steps(self, engine: EngineConnection, rng_seed: Callable[[], int]) -> Iterator[Step]:
        self._generation = Generation(engine, self._terms.jobs(rng_seed))
        yield from self._generation.steps()

    def _whole(self, frame: Frame, steps: Iterator[Step]) -> Iterator[Output]:
        entries = [entry for step in steps for entry in self._answer.entries(step)]
        payload = frame.write(
            self._answer.whole_object,
            self._answer.whole(entries),
            usage=usage_members(self.usage()),
        )
        yield JSON_HEAD
        yield Body(encode(payload, last=True))

    def _stream(self, frame: Frame, steps: Iterator[Step]) -> Iterator[Output]:
        """The last payload is held until the steps end, which they do when all is erased."""
        further: Json = {"usage": None} if self._include_usage else {}
        object_ = self._answer.chunk_object
        chunks = frame.chunks(object_, **further)
        held: Json | None = None
        unfinished = len(self._terms.prompts) * self._terms.choices
        yielded = False
        for step in steps:
            unfinished -= step.finish is not None
            for entry in self._answer.entries(step):
                if not yielded:
                    yield STREAM_HEAD
                    yielded = True
                if unfinished or entry["finish_reason"] is None or self._include_usage:
                    yield Event(chunks.encode(entry))
                held = entry
        if self._include_usage:
            usage = usage_members(self.usage())
            yield Event(encode(frame.write(object_, [], usage=usage), last=True), last=True)
        elif held is not None:
            yield Event(encode(frame.write(object_, [held]), last=True), last=True)
        yield Event(DONE)

    def usage(self) -> Usage:
        """Token counts; valid once the `last` output was yielded."""
        generated = self._generation.completion_tokens() if self._generation else 0
        return Usage(sum(map(len, self._terms.prompts)), generated)

    def tokens_used(self) -> int:
        """How many of the tokens were used up; valid once the `last` output was yielded."""
        usage = self.usage()
        return budget.tokens_used(
            usage.prompt_tokens + usage.completion_tokens, self._terms.token_budget
        )

    def counts(self) -> VerificationCounts:
        """Counts over all sequences; valid once the `last` output was yielded."""
        return counting.combine(self._generation.counts() if self._generation else ())
