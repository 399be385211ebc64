"""`sottovoce verify evidence`: one piece of evidence by itself, of any kind.

Whether it is authentic is always judged, whether it is acceptable only under a policy: without one
that step is a skip. What else a kind can be asked, and was not for want of a file, is a skip too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from attestation.errors import EvidenceError
from attestation.verdict import Outcome, Step, Verdict
from attestation.verifier.policy import REAL_PLATFORMS, WEAK_PLATFORMS, ClientPolicy
from attestation.verifier.roots import PINNED
from attestation.verifier.steps import Finding, Progress
from sottovoce.verify import gpu, hardware, tpm
from sottovoce.verify.arguments import Unusable
from sottovoce.verify.authentic import Authentic, EvidenceFiles
from sottovoce.verify.output import Verified

__all__ = ["KINDS", "EvidenceFiles", "verify_evidence"]

KINDS: Mapping[str, Callable[[EvidenceFiles, frozenset[bytes], int], Authentic]] = MappingProxyType(
    {
        "tdx": hardware.verify_tdx,
        "snp": hardware.verify_snp,
        "nvidia": gpu.verify_nvidia,
        "azure-vtpm": tpm.verify_azure,
        "gce-vtpm": tpm.verify_gce,
        "tpm": tpm.verify_tpm,
    }
)

_NO_POLICY = "no policy was given: whether this is acceptable is not decided"


def verify_evidence(
    kind: str,
    files: EvidenceFiles,
    *,
    roots: frozenset[bytes],
    at: int,
    policy: ClientPolicy | None,
) -> Verified:
    """Judge one piece of evidence.

    Args:
        kind: one of KINDS.
        files: the evidence, and what it is judged with.
        roots: fingerprints of the roots to trust; empty: those that are pinned for the kind.
        at: unix seconds.
        policy: what is demanded; None: nothing is, and the result says so.

    Raises:
        EvidenceError: it is not authentic, or not acceptable.
        Unusable: an unknown kind, or files that this kind has no use for.
    """
    if kind not in KINDS:
        raise Unusable(f"there is no kind {kind!r}; permitted: {', '.join(sorted(KINDS))}")
    progress = Progress(("evidence",), EvidenceError)

    def authenticate() -> Finding[Authentic]:
        found = KINDS[kind](files, roots or PINNED[kind], at)
        return Finding(found, found.worth)

    authentic = progress.check("evidence", authenticate)
    steps = (*progress.verdict.steps, *authentic.aspects)
    claims = {"kind": kind, **authentic.claims}
    return Verified(claims, (*steps, _judge(kind, authentic, policy, at, steps)))


def _judge(
    kind: str, authentic: Authentic, policy: ClientPolicy | None, at: int, before: tuple[Step, ...]
) -> Step:
    if policy is None:
        return Step("policy", Outcome.SKIP, _NO_POLICY)
    progress = Progress(("policy",), EvidenceError)
    try:
        progress.check("policy", _accept, kind, authentic, policy, at)
    except EvidenceError as error:
        verdict = Verdict((*before, *error.steps))
        raise EvidenceError(error.step, error.code, error.reason, verdict) from error
    return progress.verdict.steps[0]


def _accept(kind: str, authentic: Authentic, policy: ClientPolicy, at: int) -> Finding[None]:
    if kind in REAL_PLATFORMS or kind in WEAK_PLATFORMS:
        policy.accept_platform(kind)
    return Finding(None, authentic.accept(policy, at))
