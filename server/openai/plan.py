"""A request on its way through the engine, from prompts and parameters to payloads.

What payloads look like differs by endpoint (`Writer`); what is the same for all answers, streamed
or whole, is here: what they cost, and what happens when the engine fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from engine.connection import EngineConnection
from engine.types import SamplingParams, VerificationCounts
from server.openai import budget
from server.openai import counts as counting
from server.openai.errors import ApiError, Unverified, error_body, unforeseen
from server.openai.generation import Generation, Job, Step
from server.openai.grammar import Constraint
from server.openai.outputs import Body, Event, Head, Output, Usage
from server.openai.sampling import choice_seed
from server.openai.text_stream import TextStream

JSON_HEAD = Head(200, ((b"content-type", b"application/json"),))
STREAM_HEAD = Head(200, ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")))


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


class Writer(Protocol):
    """Makes the payloads of one answer; built for one request, used once, for one of the two.

    `usage` may be asked once the steps have ended, which they do when all slots are erased.
    """

    def whole(self, steps: Iterator[Step], usage: Callable[[], Usage], now: int) -> bytes:
        """The body of an answer that is not streamed, with the place of the receipt."""

    def events(
        self, steps: Iterator[Step], usage: Callable[[], Usage], now: int
    ) -> Iterator[Event]:
        """The events of a stream; the `last` of them has the place of the receipt."""


class GenerationPlan:
    """The plan of an answer that the engine computes. See `outputs.Plan` for its promises."""

    def __init__(self, terms: Terms, writer: Writer, *, streamed: bool) -> None:
        self._terms = terms
        self._writer = writer
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
            ApiError: the engine failed; in a stream, after an Event that says so, but for
                `Unverified`: that one is signed for, by whoever delivers.
        """
        outputs = self._stream if self._streamed else self._whole
        begun = False
        try:
            for output in outputs(self._steps(engine, rng_seed), now):
                begun = True
                yield output
        except ApiError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - see below
            # A decision: whatever else fails here holds the request in its frames, and may quote
            # it. What leaves says only that it failed.
            failure = unforeseen(error)
        else:
            return
        if begun and not isinstance(failure, Unverified):
            yield Event(error_body(failure))
        raise failure

    def _steps(self, engine: EngineConnection, rng_seed: Callable[[], int]) -> Iterator[Step]:
        self._generation = Generation(engine, self._terms.jobs(rng_seed))
        yield from self._generation.steps()

    def _whole(self, steps: Iterator[Step], now: int) -> Iterator[Output]:
        body = self._writer.whole(steps, self.usage, now)
        yield JSON_HEAD
        yield Body(body)

    def _stream(self, steps: Iterator[Step], now: int) -> Iterator[Output]:
        """The head waits for the first event, so that an early failure has a status."""
        for number, event in enumerate(self._writer.events(steps, self.usage, now)):
            if number == 0:
                yield STREAM_HEAD
            yield event

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
