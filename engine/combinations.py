"""Which settings of an engine contradict each other. Free of torch, so that it is said at once."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.config import EngineConfig
from engine.errors import EngineError

SPECULATIONS = ("none", "ngram", "draft")
WEIGHTS = ("as stored", "int8")
VERIFICATIONS = ("none", "audit", "full")
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


def check_combination(config: EngineConfig) -> None:
    """Check that an engine can be what a configuration says, as far as that is seen from it alone.

    Raises:
        EngineError: it contradicts itself; the message is one sentence.
    """
    for contradiction in _contradictions(config):
        raise EngineError(contradiction)


def _contradictions(config: EngineConfig) -> Iterator[str]:
    on_cpu, alone = config.device == "cpu", config.ranks == 1
    if not _DEVICE.fullmatch(config.device):
        yield "the device is cpu, cuda or cuda:N"
    if config.weights not in WEIGHTS:
        yield 'weights are "as stored" or int8'
    if config.speculation not in SPECULATIONS:
        yield "speculation is none, ngram or draft"
    if config.draft is not None and config.speculation != "draft":
        yield 'a draft model needs speculation "draft"'
    if config.draft is None and config.speculation == "draft":
        yield 'speculation "draft" needs the folder of a draft model'
    if config.weights == "int8" and not (on_cpu and alone):
        yield "int8 weights are for one process on a CPU"
    yield from _of_kv(config, on_cpu=on_cpu, alone=alone)
    if config.verification not in VERIFICATIONS:
        yield "verification is none, audit or full"
    if config.audit_rows < 1:
        yield "an audit opens at least one row"
    if config.verification != "none" and not (on_cpu and alone and config.dtype == "bfloat16"):
        yield (
            "verification is for one process that computes in bfloat16 on a CPU; "
            "--verification none serves anything, and says so"
        )


def _of_kv(config: EngineConfig, *, on_cpu: bool, alone: bool) -> Iterator[str]:
    if config.kv_truncation and (on_cpu or not alone):
        yield "kv_truncation is for one process on a GPU"
    if config.kv_offload_bytes < 0:
        yield "kv_offload takes no less than nothing"
    if config.kv_offload_bytes and not (on_cpu and alone):
        yield "kv_offload is for one process on a CPU"
