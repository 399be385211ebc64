"""All GPUs of a node together: as many as its key document states, each one a GPU of its own.

A node's collateral holds, by name:

    nvidia.<i>-chain   the five certificates of the GPU whose report is the i-th, PEM
    nvidia.<i>-ocsp    OCSP responses for its second to fourth certificate, DER, one after the other
    rim.<k>            a manifest, of a driver or a VBIOS; GPUs may share it
    rim-ocsp.<k>       OCSP responses for its chain but the root, likewise

A GPU's first certificate comes out of the GPU itself, and no responder knows it: the second one,
the device's own, is what can be revoked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count as count_from
from itertools import product, takewhile

from cryptography.x509 import Certificate

from attestation.errors import Code, Refused
from attestation.gpu_nonce import gpu_nonce
from attestation.verifier.nvidia import ocsp, rim
from attestation.verifier.nvidia.claims import GpuClaims, Match
from attestation.verifier.nvidia.compare import compare, is_for
from attestation.verifier.nvidia.policy import AT_LOGGING, GpuPolicy
from attestation.verifier.nvidia.rim import Rim
from attestation.verifier.nvidia.verify import load_chain, verify_under

MAX_RIMS = 16
"""Two for each kind of GPU in a node, with room."""


@dataclass(frozen=True)
class Gpus:
    """The GPUs of a node, verified and accepted.

    Attributes:
        claims: one for each, in the order of their reports.
        reason: why they are acceptable, in one sentence for a person.
    """

    claims: tuple[GpuClaims, ...]
    reason: str


@dataclass(frozen=True)
class _Reference:
    rim: Rim
    revocation_checked_at: int | None


def collateral_names(parts: Mapping[str, bytes], count: int) -> frozenset[str]:
    """Return the names of the parts that `check_gpus` uses for `count` GPUs."""
    gpus = {f"nvidia.{index}-{kind}" for index in range(count) for kind in ("chain", "ocsp")}
    rims = {f"{kind}.{k}" for k in _rim_indexes(parts) for kind in ("rim", "rim-ocsp")}
    return frozenset(parts.keys() & (gpus | rims))


def check_gpus(
    reports: Sequence[bytes],
    collateral: Mapping[str, bytes],
    *,
    key_document_digest: bytes,
    nonce: bytes,
    count: int,
    policy: GpuPolicy,
    roots: frozenset[bytes],
    at: int,
    rims_logged_at: int | None = None,
) -> Gpus:
    """Verify a node's GPU reports and check each GPU against the policy.

    What the collateral holds is verified whether or not the policy demands it.

    Args:
        reports: as in the bundle, in their order.
        collateral: the parts by their names.
        key_document_digest: SHA-256 of the key document that the reports must belong to.
        nonce: the nonce of the report data, 32 bytes.
        count: how many GPUs the key document states.
        policy: what is demanded of each.
        roots: SHA-256 of the DER of NVIDIA's roots, for devices and for manifests.
        at: unix seconds.
        rims_logged_at: when the manifests were logged; None if they were not.

    Raises:
        Refused: a check did not hold; its code says which.
    """
    _check_count(len(reports), count)
    rim_at = _rim_time(policy, at, rims_logged_at)
    references = _load_references(collateral, roots=roots, at=at, rim_at=rim_at)
    found = []
    for index, report in enumerate(reports):
        chain = _load_chain(collateral, index)
        claims = verify_under(report, chain, roots=roots, at=at)
        if claims.nonce != gpu_nonce(key_document_digest, index, nonce):
            reason = f"GPU {index} reports for another key document, place or nonce"
            raise Refused(Code.GPU_NONCE_MISMATCH, reason)
        responses = collateral.get(f"nvidia.{index}-ocsp", b"")
        found.append(_matched(claims, references, _revocation(responses, chain[1:], at)))
    _check_distinct([claims for claims, _ in found])
    _check_used(references, [used for _, used in found])
    reasons = [policy.check(claims, at=at) for claims, _ in found]
    return Gpus(tuple(claims for claims, _ in found), _summary(reasons))


def _check_count(found: int, stated: int) -> None:
    if found < stated:
        raise Refused(Code.GPU_REPORTS_MISSING, f"{found} reports for {stated} GPUs")
    if found > stated:
        raise Refused(Code.GPU_REPORTS_SURPLUS, f"{found} reports for {stated} GPUs")


def _rim_time(policy: GpuPolicy, at: int, logged_at: int | None) -> int:
    if policy.rim_time != AT_LOGGING:
        return at
    if logged_at is None:
        raise Refused(Code.GPU_RIM_TIME_UNKNOWN, "nothing says when the manifests were logged")
    return logged_at


def _load_references(
    collateral: Mapping[str, bytes], *, roots: frozenset[bytes], at: int, rim_at: int
) -> list[_Reference]:
    references = []
    for k in _rim_indexes(collateral):
        verified = rim.verify(collateral[f"rim.{k}"], roots=roots, at=rim_at)
        responses = collateral.get(f"rim-ocsp.{k}", b"")
        references.append(_Reference(verified, _revocation(responses, verified.chain, at)))
    return references


def _rim_indexes(collateral: Mapping[str, bytes]) -> list[int]:
    return list(takewhile(lambda k: k < MAX_RIMS and f"rim.{k}" in collateral, count_from()))


def _load_chain(collateral: Mapping[str, bytes], index: int) -> tuple[Certificate, ...]:
    chain = collateral.get(f"nvidia.{index}-chain", b"")
    if not chain:
        raise Refused(Code.GPU_CHAIN_MISSING, f"GPU {index} has no certificates")
    return load_chain(chain)


def _revocation(responses: bytes, chain: Sequence[Certificate], at: int) -> int | None:
    return ocsp.check_all(responses, chain, at=at).this_update if responses else None


def _matched(
    claims: GpuClaims, references: Sequence[_Reference], checked_at: int | None
) -> tuple[GpuClaims, tuple[_Reference, ...]]:
    drivers = [each for each in references if is_for(each.rim, claims.driver_version)]
    firmware = [each for each in references if is_for(each.rim, claims.vbios_version)]
    match, used = _first_match(claims, list(product(drivers, firmware)))
    times = (checked_at, *(each.revocation_checked_at for each in used))
    known = [time for time in times if time is not None]
    oldest = min(known) if len(known) == len(times) else None
    return replace(claims, match=match, revocation_checked_at=oldest), used


def _first_match(
    claims: GpuClaims, pairs: Sequence[tuple[_Reference, _Reference]]
) -> tuple[Match | None, tuple[_Reference, ...]]:
    # Boards of several kinds may have VBIOSes of one version, with a manifest each.
    refused = None
    for driver, vbios in pairs:
        try:
            return compare(claims, driver.rim, vbios.rim), (driver, vbios)
        except Refused as error:
            refused = error
    if refused is not None:
        raise refused
    return None, ()


def _check_distinct(found: Sequence[GpuClaims]) -> None:
    # By both keys: another firmware gives the same chip another attestation key.
    for keys in ([each.device for each in found], [each.attestation_key for each in found]):
        if len(set(keys)) != len(keys):
            raise Refused(Code.GPU_NOT_DISTINCT, "two reports are of one and the same GPU")


def _check_used(references: Sequence[_Reference], used: Sequence[tuple[_Reference, ...]]) -> None:
    needed = {id(each) for pair in used for each in pair}
    if any(id(each) not in needed for each in references):
        raise Refused(Code.QUOTE_UNCHECKED_EVIDENCE, "a manifest that is of no GPU in this node")


def _summary(reasons: Sequence[str]) -> str:
    kinds = "; ".join(sorted(set(reasons)))
    return f"{len(reasons)} distinct GPUs: {kinds}" if reasons else "no GPU"
