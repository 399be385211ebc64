"""What rank 0 tells the others, as words.

    ON      blocks, block size, rows, logit rows       make a pool and a device over it
    STEP    a `StepInput`, see `encode_step`           do your part of it
    FINISH                                             zero what the step staged
    COPY    pairs of blocks                            copy
    ZERO    blocks                                     zero, then meet
    END                                                nothing more will come

Blocks travel as runs, (first, count), because that is what they mostly are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum

import torch
from torch import Tensor

from engine.attention import Span
from engine.device import StepInput
from engine.kv_cache import runs
from engine.parallel.group import Group

_FLOATS = (torch.float32, torch.bfloat16)


class Order(IntEnum):
    """The first word of an order."""

    END = 0
    ON = 1
    STEP = 2
    FINISH = 3
    COPY = 4
    ZERO = 5


def tell_step(group: Group, batch: StepInput) -> None:
    """Tell a step; embeddings, if that is what its rows are, follow its order."""
    embedded = batch.rows.is_floating_point()
    kind = 1 + _FLOATS.index(batch.rows.dtype) if embedded else 0
    width = batch.rows.shape[1] if embedded else 0
    words: list[int] = [Order.STEP, kind, width, len(batch.rows), len(batch.spans)]
    for span in batch.spans:
        words += (span.start, span.length, *encode_blocks(span.blocks))
    words += batch.logit_rows
    group.tell(words, None if embedded else batch.rows)
    if embedded:
        group.share(batch.rows.contiguous())


def hear_step(group: Group, words: list[int], ids: Tensor) -> StepInput:
    """Return the step of an order."""
    rest = iter(words[1:])
    kind, width, count, spans = (next(rest) for _ in range(4))
    told = [_span(rest) for _ in range(spans)]
    logit_rows = list(rest)
    if not kind:
        return StepInput(ids, told, logit_rows)
    rows = torch.zeros(count, width, dtype=_FLOATS[kind - 1])
    group.share(rows)
    return StepInput(rows, told, logit_rows)


def encode_blocks(blocks: Sequence[int]) -> list[int]:
    """Return the number of runs, then each run's first block and count."""
    pairs = list(runs(blocks))
    return [len(pairs), *(word for pair in pairs for word in pair)]


def decode_blocks(words: Iterator[int]) -> list[int]:
    """Read what `encode_blocks` wrote."""
    blocks: list[int] = []
    for _ in range(next(words)):
        first, count = next(words), next(words)
        blocks += range(first, first + count)
    return blocks


def _span(words: Iterator[int]) -> Span:
    start, length = next(words), next(words)
    return Span(decode_blocks(words), start, length)
