"""Where every field of a slot lies, and how sampling parameters are written there. Torch-free.

One memfd, little-endian:

    page 0   written by the capsule: command, group, lengths, sampling parameters
    page 1   written by the engine: state, outcome, counters
    then     end-of-sequence ids, logit bias, mask       (capsule)
             prompt ids u32[max_model_len]               (capsule)
             output ids u32[max_model_len]               (engine)
             logprob rows [max_model_len]                (engine; row = position, prompt first)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from engine.errors import InvalidRequest
from engine.types import MAX_EOS_IDS, MAX_LOGIT_BIAS, SamplingParams

PAGE = 4096
MAX_STEP_IDS = 16
"""Output ids that one step can add to a sequence (`engine.speculative`)."""

# Word (u32) indexes in the capsule's page. Fields of eight bytes sit at even words.
COMMAND, STOP_AT, MASK_FOR, INDEX = 0, 1, 2, 3
GROUP = 4  # u64
PROMPT_LENGTH, EOS_COUNT, BIAS_COUNT, FLAGS = 6, 7, 8, 9
MAX_NEW, MIN_TOKENS, TOP_K, LOGPROBS, PROMPT_LOGPROBS = 10, 11, 12, 13, 14
SEED = 16  # u64
TEMPERATURE, TOP_P, MIN_P = 18, 20, 22  # f64
FREQUENCY, PRESENCE, REPETITION = 24, 26, 28  # f64
IGNORE_EOS, CONSTRAINED = 1, 2  # bits of FLAGS

# Word indexes in the engine's page.
STATE, FINISH, ERROR, SAMPLED, RELEASED = 1024, 1025, 1026, 1027, 1028
CHECKS, SENT, HITS, MISSES = 1030, 1032, 1034, 1036  # u64
DECISIONS = (PAGE + 64, PAGE + 96)  # bytes


@dataclass(frozen=True)
class SlotGeometry:
    """The sizes both sides must agree on; every offset of the layout follows, worked out once."""

    max_model_len: int
    vocab_size: int
    max_logprobs: int = 20

    @cached_property
    def mask_size(self) -> int:
        """Bytes of one mask: a bit an id, least significant first, padded to eight bytes."""
        return -(-self.vocab_size // 64) * 8

    @cached_property
    def row_words(self) -> int:
        """Words of one logprob row: the chosen id's, then top ids, then their logprobs."""
        return 1 + 2 * self.max_logprobs

    @cached_property
    def eos_offset(self) -> int:
        """Where the end-of-sequence ids begin, in bytes."""
        return 2 * PAGE

    @cached_property
    def bias_offset(self) -> int:
        """Where the logit bias begins: all ids, then all values."""
        return self.eos_offset + 4 * MAX_EOS_IDS

    @cached_property
    def mask_offset(self) -> int:
        """Where the mask begins."""
        return self.bias_offset + 8 * MAX_LOGIT_BIAS

    @cached_property
    def prompt_offset(self) -> int:
        """Where the prompt ids begin."""
        return self.mask_offset + self.mask_size

    @cached_property
    def output_offset(self) -> int:
        """Where the output ids begin."""
        return self.prompt_offset + 4 * self.max_model_len

    @cached_property
    def rows_offset(self) -> int:
        """Where the logprob rows begin."""
        return self.output_offset + 4 * self.max_model_len

    @cached_property
    def size(self) -> int:
        """Bytes of the whole slot, a multiple of the page size."""
        end = self.rows_offset + 4 * self.row_words * self.max_model_len
        return -(-end // PAGE) * PAGE


class SlotViews:
    """One slot's memory, seen as bytes and as machine words.

    An item of `words` or `longs` is read and written in one access, which is what lets the other
    side poll it; `struct` would pack a little-endian integer byte by byte.
    """

    def __init__(self, memory: memoryview) -> None:
        self.bytes = memory
        self.words = memory.cast("I")
        self.longs = memory.cast("Q")
        self.doubles = memory.cast("d")
        self.floats = memory.cast("f")

    def release(self) -> None:
        """Let go of the memory; the views cannot be used afterwards."""
        for view in (self.words, self.longs, self.doubles, self.floats, self.bytes):
            view.release()

    def fill(self, offset: int, values: Sequence[int]) -> None:
        """Write u32 values from a byte offset on."""
        words = self.words
        for index, value in enumerate(values, offset // 4):
            words[index] = value

    def signed(self, field: int) -> int:
        """Read a word that holds n + 1, so that -1 is stored as 0 and the word stays unsigned."""
        return self.words[field] - 1


def write_params(views: SlotViews, geometry: SlotGeometry, params: SamplingParams) -> None:
    """Write the parameters of a request."""
    words, doubles = views.words, views.doubles
    words[MAX_NEW] = params.max_new_tokens
    words[MIN_TOKENS] = params.min_tokens
    words[TOP_K] = params.top_k
    words[LOGPROBS] = params.logprobs + 1
    words[PROMPT_LOGPROBS] = params.prompt_logprobs + 1
    words[FLAGS] = IGNORE_EOS * params.ignore_eos | CONSTRAINED * params.constrained
    views.longs[SEED // 2] = params.seed
    doubles[TEMPERATURE // 2] = params.temperature
    doubles[TOP_P // 2] = params.top_p
    doubles[MIN_P // 2] = params.min_p
    doubles[FREQUENCY // 2] = params.frequency_penalty
    doubles[PRESENCE // 2] = params.presence_penalty
    doubles[REPETITION // 2] = params.repetition_penalty
    words[EOS_COUNT] = len(params.eos_ids)
    views.fill(geometry.eos_offset, params.eos_ids)
    words[BIAS_COUNT] = len(params.logit_bias)
    views.fill(geometry.bias_offset, [token for token, _ in params.logit_bias])
    first = geometry.bias_offset // 4 + MAX_LOGIT_BIAS
    for index, (_, bias) in enumerate(params.logit_bias, first):
        views.floats[index] = bias


def read_params(views: SlotViews, geometry: SlotGeometry) -> SamplingParams:
    """Copy the parameters of a request out, each field read once.

    Raises:
        InvalidRequest: a value is out of range.
    """
    words, doubles, flags = views.words, views.doubles, views.words[FLAGS]
    params = SamplingParams(
        max_new_tokens=words[MAX_NEW],
        min_tokens=words[MIN_TOKENS],
        top_k=words[TOP_K],
        logprobs=views.signed(LOGPROBS),
        prompt_logprobs=views.signed(PROMPT_LOGPROBS),
        ignore_eos=bool(flags & IGNORE_EOS),
        constrained=bool(flags & CONSTRAINED),
        seed=views.longs[SEED // 2],
        temperature=doubles[TEMPERATURE // 2],
        top_p=doubles[TOP_P // 2],
        min_p=doubles[MIN_P // 2],
        frequency_penalty=doubles[FREQUENCY // 2],
        presence_penalty=doubles[PRESENCE // 2],
        repetition_penalty=doubles[REPETITION // 2],
        eos_ids=tuple(_read_ids(views, geometry.eos_offset, EOS_COUNT, MAX_EOS_IDS)),
        logit_bias=_read_bias(views, geometry),
    )
    check_params(params, geometry)
    return params


def check_params(params: SamplingParams, geometry: SlotGeometry) -> None:
    """Check what only the geometry can say about parameters.

    Raises:
        InvalidRequest: an id is outside the vocabulary, or more logprobs are wanted than fit.
    """
    most = min(geometry.max_logprobs, geometry.vocab_size)
    if max(params.logprobs, params.prompt_logprobs) > most:
        raise InvalidRequest("more logprobs than the slot has room for, or the vocabulary ids")
    named = (*params.eos_ids, *(token for token, _ in params.logit_bias))
    if any(token >= geometry.vocab_size for token in named):
        raise InvalidRequest("an end-of-sequence or logit_bias id is outside the vocabulary")


def _read_ids(views: SlotViews, offset: int, count_field: int, most: int) -> list[int]:
    count = views.words[count_field]
    if count > most:
        raise InvalidRequest("a list in the slot is longer than its room")
    return views.words[offset // 4 : offset // 4 + count].tolist()


def _read_bias(views: SlotViews, geometry: SlotGeometry) -> tuple[tuple[int, float], ...]:
    ids = _read_ids(views, geometry.bias_offset, BIAS_COUNT, MAX_LOGIT_BIAS)
    first = geometry.bias_offset // 4 + MAX_LOGIT_BIAS
    values = views.floats[first : first + len(ids)].tolist()
    return tuple(zip(ids, values, strict=True))
