"""What a client's checks cost: a whole bundle of a TDX node with one GPU, and a receipt.

No such hardware is needed, and no published evidence is that of a whole node: the evidence is made
by the tests' own makers (`tests/support/evidence`), in the real formats and under roots of their
own. They are part of a checkout and not of the wheel; without them these cases are left out, and
said to be.

Signatures of certificates that were verified before are remembered. Both is measured: a client
that has never seen any of the certificates, and one that appraises the node again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from attestation.verifier import certificates
from attestation.verifier.node import VerifiedNode, appraise
from attestation.verifier.policy import ClientPolicy
from attestation.verifier.receipt import check_receipt
from sottovoce.bench.line import Line, line
from wire import receipt
from wire.receipt import Receipt, Transfers, Verification

_MAKERS = "tests.support.evidence.fleet"
_MILLISECONDS = 1e3


def measure(count: int) -> Iterator[Line]:
    """Yield the cost of a bundle (`count` samples) and of a receipt (ten times as many)."""
    try:
        fleet = import_module(_MAKERS)
    except ImportError:
        print(f"left out: verify cases; {_MAKERS} is not installed here", file=sys.stderr)
        return
    made = fleet.TdxNode()
    bundle, reference = made.bundle().encode(), made.reference()

    def judge() -> VerifiedNode:
        return appraise(bundle, policy=ClientPolicy(), reference=reference, at=fleet.NOW)

    name = f"sweep verify TDX + GPU bundle @ {len(bundle) >> 10} KiB with manifests and OCSP"
    seen = list(_timed(judge, count, lambda: None))
    yield line(f"{name}, certificates seen before", "ms", seen)
    unseen = list(_timed(judge, count, certificates.verify_issued.cache_clear))
    yield line(f"{name}, certificates never seen", "ms", unseen)
    yield _receipts(judge(), fleet, 10 * count)


def _receipts(node: VerifiedNode, fleet: Any, count: int) -> Line:  # noqa: ANN401 - a module
    request_hash, response_hash = b"\x71" * 32, b"\x61" * 32
    claims = Receipt(
        key_document=node.key_document.digest,
        request_hash=request_hash,
        response_hash=response_hash,
        model_digest=node.key_document.model_digest,
        prompt_tokens=11,
        completion_tokens=22,
        verification=Verification("audit", 33, bytes(32)),
        transfers=Transfers("sealed", 4, 3, 1),
        issued_at=fleet.NOW // 60 * 60,
    )
    signed = receipt.sign(claims, fleet.RECEIPT_KEY)

    def judge() -> object:
        return check_receipt(
            signed,
            node=node,
            request_hash=request_hash,
            response_hash=response_hash,
            prompt_tokens=11,
            completion_tokens=22,
            at=fleet.NOW,
        )

    size = f"{len(signed)} bytes"
    return line(f"sweep verify receipt @ {size}", "ms", list(_timed(judge, count, lambda: None)))


def _timed(work: Callable[[], object], count: int, before: Callable[[], None]) -> Iterator[float]:
    """Yield the milliseconds of each `work`, after one that is not counted."""
    work()
    for _ in range(count):
        before()
        started = time.perf_counter()
        work()
        yield (time.perf_counter() - started) * _MILLISECONDS
