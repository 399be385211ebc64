"""The appraisal of fresh evidence: that of the very node asked, over the very nonce.

A logged bundle says what the hardware has once vouched for; it is the same for everybody. To know
that the hardware still does, a client sends 32 random bytes of its own, and the quote must hold
them. What can be passed off for that, and what shows it:

    the logged quote, or one made for another nonce    report-data    `nonce-mismatch`
    GPU reports of an earlier time under a new quote   gpu-evidence   `gpu-nonce-mismatch`
    the fresh quote of another node in the log         freshness      `node-mismatch`

Where a quote shows only a digest of the report data (a TPM's), one over an earlier nonce differs
by nothing from one over other keys: then `report-data-mismatch` is the code.
"""

from __future__ import annotations

from attestation.errors import AppraisalError, Code
from attestation.report_data import NO_NONCE
from attestation.verdict import Outcome, Step, Verdict
from attestation.verifier.node import ReferenceValues, VerifiedNode, appraise
from attestation.verifier.policy import ClientPolicy

STEP = "freshness"


def appraise_fresh(
    bundle: bytes,
    *,
    node: str,
    nonce: bytes,
    policy: ClientPolicy,
    reference: ReferenceValues,
    at: int,
) -> tuple[VerifiedNode, Step]:
    """Appraise evidence that was made on demand; return what it shows, and the step that is added.

    Args:
        bundle: the encoded bundle that came back.
        node: the name of the node that was asked.
        nonce: what it was asked with: 32 random bytes, used this once.
        policy: as of `attestation.verifier.node.appraise`.
        reference: likewise.
        at: unix seconds.

    Raises:
        AppraisalError: a step failed, or the evidence is another node's.
        ValueError: a nonce that is none.
    """
    if nonce == NO_NONCE:
        raise ValueError("zeros are no nonce: the bundle in the log has them")
    fresh = appraise(bundle, policy=policy, reference=reference, at=at, nonce=nonce)
    if fresh.node != node:
        reason = "fresh evidence of another node than the one that was asked"
        steps = (*fresh.steps, Step(STEP, Outcome.FAIL, reason))
        raise AppraisalError(STEP, Code.NODE_MISMATCH, reason, Verdict(steps))
    return fresh, Step(STEP, Outcome.PASS, "the hardware quoted this node's keys over our nonce")
