"""A worker's appraisal of its own evidence: the client's verifier, before any client is asked.

What the log holds is taken for granted, and only that: release, model and engine policy count as
logged if they are the ones the bundle names. All else is checked as a client does it.
"""

from __future__ import annotations

from collections.abc import Mapping

from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import MalformedEvidence, Refused
from attestation.verifier.node import ReferenceValues, VerifiedNode, appraise
from attestation.verifier.platforms import PLATFORMS
from attestation.verifier.policy import ClientPolicy
from wire.key_document import KeyDocument


def appraise_own(
    bundle: bytes,
    *,
    policy: ClientPolicy,
    roots: Mapping[str, frozenset[bytes]],
    log_origin: str,
    at: int,
) -> VerifiedNode:
    """Appraise a bundle that this worker has just made.

    Raises:
        AppraisalError: a step failed: no client under this policy would encrypt to this worker.
    """
    reference = _reference(bundle, roots, log_origin, at)
    return appraise(bundle, policy=policy, reference=reference, at=at)


def _reference(
    bundle: bytes, roots: Mapping[str, frozenset[bytes]], log_origin: str, at: int
) -> ReferenceValues:
    try:
        made = Bundle.decode(bundle)
    except MalformedEvidence:  # too long, for one: the appraisal says so, as its first step
        return ReferenceValues(frozenset(), {}, {}, frozenset(), roots, log_origin)
    document = KeyDocument.decode(made.key_document)
    return ReferenceValues(
        key_documents=frozenset({document.digest}),
        releases={made.platform: _measurement(made, roots, at)},
        models={document.model: frozenset({document.model_digest})},
        policies=frozenset({document.policy_digest}),
        roots=roots,
        log_origin=log_origin,
    )


def _measurement(
    bundle: Bundle, roots: Mapping[str, frozenset[bytes]], at: int
) -> frozenset[bytes]:
    """Return what the quote says is running; nothing if it does not verify: the appraisal says."""
    platform = PLATFORMS.get(bundle.platform)
    if platform is None:
        return frozenset()
    pinned = roots.get(bundle.platform, frozenset())
    try:
        collateral = Collateral.decode(bundle.collateral)
        quote = platform.verify(bundle, collateral, roots=pinned, at=at)
    except (MalformedEvidence, Refused):
        return frozenset()
    return frozenset({quote.measurement})
