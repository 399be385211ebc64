"""What a plan yields to its capsule, and what it can tell afterwards.

    completion, not streamed:   Head, Body(last)
    completion, streamed:       Head, Event..., Event(last), Event(b"[DONE]")
    response, streamed:         Head, Event..., Event(last)
    failure before any byte:    ApiError raised, nothing yielded
    failure after the Head:     Event(error object) yielded, then the same ApiError raised

Exactly one output of a complete answer is `last`. Its payload ends with `,"attestation":null}`,
the place of the receipt (in the last event of a response with one brace more, for there the member
is the response's), and it is yielded only after every slot of the request reads ERASED.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from engine.connection import EngineConnection
from engine.types import VerificationCounts

HeaderFields = tuple[tuple[bytes, bytes], ...]

DONE = b"[DONE]"


@dataclass(frozen=True)
class Head:
    """Status and header fields of the answer; always the first output."""

    status: int
    headers: HeaderFields


@dataclass(frozen=True)
class Event:
    """The payload of one server-sent event, without `data:` and line ends.

    `then` is the constant payload that still follows the `last` one; None if none does.
    """

    payload: bytes
    last: bool = False
    then: bytes | None = DONE


@dataclass(frozen=True)
class Body:
    """The whole body of an answer that is not streamed."""

    payload: bytes
    last: bool = True


Output = Head | Event | Body


@dataclass(frozen=True)
class Usage:
    """Tokens of a request: its prompts, and what was generated for all its choices."""

    prompt_tokens: int
    completion_tokens: int


class Plan(Protocol):
    """A request that was understood, priced and not yet computed."""

    @property
    def tokens_needed(self) -> int:
        """The tokens this request costs: 1, 2, 4 or 8."""

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream of server-sent events."""

    def run(
        self, engine: EngineConnection, rng_seed: Callable[[], int], now: int
    ) -> Iterator[Output]:
        """Compute the answer. May be called once.

        Args:
            engine: the capsule's own connection, with no slot opened yet.
            rng_seed: fresh random 64-bit numbers, for choices whose request names no seed.
            now: Unix seconds, the `created` of the answer.

        Raises:
            ApiError: see the module; after the Head it follows an Event that carries it.
        """

    def usage(self) -> Usage:
        """Token counts; valid once the `last` output was yielded."""

    def tokens_used(self) -> int:
        """How many of the tokens were used up; valid once the `last` output was yielded."""

    def counts(self) -> VerificationCounts:
        """Verification and transfer counts; valid once the `last` output was yielded."""
