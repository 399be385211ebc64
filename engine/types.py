"""The values that cross between a capsule and the engine. Free of torch: both sides import it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from engine.errors import InvalidRequest

MAX_EOS_IDS = 32
"""End-of-sequence ids a request may name; published generation configs hold at most a handful."""
MAX_LOGIT_BIAS = 1024
"""Entries of `logit_bias`; OpenAI's service takes 300, vLLM 1,024."""
SUSPECT = b"suspect\n"
"""What the engine says to its launcher, once, when a step of its device did not verify."""
MAX_U32 = 2**32 - 1
MAX_U64 = 2**64 - 1


class FinishReason(IntEnum):
    """Why a sequence produces no further id."""

    STOP = 1
    """An end-of-sequence id was sampled, or the capsule called `done` early (a stop string)."""
    LENGTH = 2
    """`max_new_tokens` or the context length was reached."""
    ABORTED = 3
    """The capsule cancelled, or went away."""
    FAILED = 4
    """The engine could not go on; `Slot.error` says in which class of case."""


class EngineState(IntEnum):
    """Where a sequence is. FAILED and ERASED hold no content any more."""

    EMPTY = 0
    SUBMITTED = 1
    QUEUED = 2
    RUNNING = 3
    FINISHED = 4
    """No further id will come; ids and logprobs stay readable until `done` or `cancel`."""
    FAILED = 5
    """Everything of the sequence is erased but the outcome; `done` turns it into ERASED."""
    ERASED = 6
    """KV blocks, logits and slot are zeroed; outcome and counters remain. The last state."""


class ErrorCode(IntEnum):
    """What an engine failure was, without a word about the content."""

    NONE = 0
    INVALID_REQUEST = 1
    """Parameters, ids or lengths out of range."""
    TOO_LONG = 2
    """The prompt does not fit the model's context or the KV pool, even alone."""
    STEP_FAILED = 3
    """The computation of a step failed."""
    NO_CANDIDATE = 4
    """The mask, or the logits themselves, left no token to sample."""
    VERIFICATION_FAILED = 5
    """The device's computation did not verify; nothing of the step was released."""
    UNSUPPORTED = 6
    """The engine behind the slot cannot do what was asked for."""


@dataclass(frozen=True)
class SamplingParams:
    """How one sequence is continued.

    `logprobs` and `prompt_logprobs` are -1 for none, 0 for the chosen id alone, n for the n most
    likely ids too. They are taken from the model's own distribution (log-softmax of the raw
    logits), before penalties, masks and temperature. `top_k` 0 means every id.

    Raises:
        InvalidRequest: a value is out of range.
    """

    max_new_tokens: int
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    """Fixes every draw, together with the position. Without a wish, bring a random one."""
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int = -1
    prompt_logprobs: int = -1
    eos_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    """End-of-sequence ids cannot be sampled before this many ids."""
    constrained: bool = False
    """Each id waits for a mask from the capsule (`Slot.set_mask`)."""

    def __post_init__(self) -> None:
        _within("max_new_tokens", self.max_new_tokens, 0, MAX_U32)
        _within("min_tokens", self.min_tokens, 0, MAX_U32)
        _within("temperature", self.temperature, 0.0, 100.0)
        _within("top_p", self.top_p, 0.0, 1.0)
        _within("top_k", self.top_k, 0, MAX_U32)
        _within("min_p", self.min_p, 0.0, 1.0)
        _within("seed", self.seed, 0, MAX_U64)
        _within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _within("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _within("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
        _within("logprobs", self.logprobs, -1, MAX_U32)
        _within("prompt_logprobs", self.prompt_logprobs, -1, MAX_U32)
        _within("number of eos_ids", len(self.eos_ids), 0, MAX_EOS_IDS)
        _within("number of logit_bias entries", len(self.logit_bias), 0, MAX_LOGIT_BIAS)
        for token in self.eos_ids:
            _within("eos_ids", token, 0, MAX_U32)
        for token, bias in self.logit_bias:
            _within("logit_bias id", token, 0, MAX_U32)
            _within("logit_bias", bias, -100.0, 100.0)


def _within(name: str, value: float, low: float, high: float) -> None:
    # Comparisons with NaN are false, so NaN is refused here too.
    if not (low <= value <= high and math.isfinite(value)):
        raise InvalidRequest(f"{name} is not between {low} and {high}")


@dataclass(frozen=True)
class Logprobs:
    """Natural-log probabilities at one position."""

    chosen: float
    top: tuple[tuple[int, float], ...]
    """(id, log-probability), most likely first; as many as were asked for."""


@dataclass(frozen=True)
class VerificationCounts:
    """What a receipt says about how a sequence was computed."""

    checks: int
    decisions: bytes
    """32 bytes: the digest chain over released ids and their checks; zeros when none is kept."""
    sent: int
    hits: int
    misses: int
