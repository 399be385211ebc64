"""One receipt for several sequences: their verification and transfer counts put together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from engine.types import VerificationCounts

_LABEL = b"sottovoce decisions v1"
_NONE = bytes(32)


def combine(counts: Sequence[VerificationCounts]) -> VerificationCounts:
    """Sum the counts of a request's sequences, in the order of their choices.

    The digest of one sequence stands for itself; of several it is
    SHA-256("sottovoce decisions v1" || digest of each); zeros if no sequence kept one.
    """
    return VerificationCounts(
        checks=sum(count.checks for count in counts),
        decisions=_decisions([count.decisions for count in counts]),
        sent=sum(count.sent for count in counts),
        hits=sum(count.hits for count in counts),
        misses=sum(count.misses for count in counts),
    )


def _decisions(digests: Sequence[bytes]) -> bytes:
    if all(digest == _NONE for digest in digests):
        return _NONE
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(_LABEL + b"".join(digests)).digest()
