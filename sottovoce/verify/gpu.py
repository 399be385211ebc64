"""The kind `nvidia`: a GPU's report, or a manifest of reference measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cryptography.x509 import Certificate

from attestation.errors import Code, Refused
from attestation.verifier.nvidia import ocsp, rim
from attestation.verifier.nvidia.claims import GpuClaims, Match
from attestation.verifier.nvidia.compare import compare, is_for
from attestation.verifier.nvidia.rim import Rim
from attestation.verifier.nvidia.verify import load_chain, verify
from sottovoce.verify.arguments import Unusable
from sottovoce.verify.authentic import Authentic, EvidenceFiles, aspect


def verify_nvidia(files: EvidenceFiles, roots: frozenset[bytes], at: int) -> Authentic:
    """Verify a GPU's report with its chain, and with manifests and OCSP responses where given.

    A manifest by itself (XML) is verified too.

    Raises:
        Refused: it is not authentic, or its measurements are not golden.
        Unusable: files that it has no use for.
    """
    files.refuse(event_log=files.event_log)
    if _is_xml(files.evidence):
        files.refuse(chain=files.chain, collateral=files.collateral)
        return _verify_rim(files.evidence, roots, at)
    return _verify_report(files, roots, at)


def _verify_rim(xml: bytes, roots: frozenset[bytes], at: int) -> Authentic:
    manifest = rim.verify(xml, roots=roots, at=at)
    return Authentic(
        {"format": "rim", **manifest.to_json()},
        f"a manifest of {manifest.golden.version}, signed under a pinned root",
        lambda _policy, _at: "a manifest is accepted or not with the GPU that it is for",
    )


def _verify_report(files: EvidenceFiles, roots: frozenset[bytes], at: int) -> Authentic:
    chain = b"".join(files.chain)
    if not chain:
        raise Refused(Code.GPU_CHAIN_MISSING, "the GPU's certificates were not given")
    claims = verify(files.evidence, chain, roots=roots, at=at)
    manifests = [rim.verify(each, roots=roots, at=at) for each in files.collateral if _is_xml(each)]
    responses = [each for each in files.collateral if not _is_xml(each)]
    used, match = _compare(claims, manifests)
    chains = [load_chain(chain)[1:], *(each.chain for each in used)]
    claims = replace(claims, match=match, revocation_checked_at=_check_ocsp(responses, chains, at))
    aspects = (
        aspect(
            "reference-measurements",
            looked=match is not None,
            found="its measurements are those of its driver's and its VBIOS's manifests",
            missing="the manifests of its driver and of its VBIOS were not both given",
        ),
        aspect(
            "revocation",
            looked=claims.revocation_checked_at is not None,
            found="no certificate is revoked",
            missing="OCSP responses were not given for each chain",
        ),
    )
    worth = f"signed by a {claims.chip or 'device'} of NVIDIA's"
    return Authentic(
        {"format": "spdm", **claims.to_json()},
        worth,
        lambda policy, at: policy.gpu.check(claims, at=at),
        aspects,
    )


def _compare(claims: GpuClaims, manifests: Sequence[Rim]) -> tuple[tuple[Rim, ...], Match | None]:
    driver = [each for each in manifests if is_for(each, claims.driver_version)]
    vbios = [each for each in manifests if is_for(each, claims.vbios_version)]
    if len(driver) + len(vbios) != len(manifests):
        reason = "a manifest is for another version than the GPU runs"
        raise Refused(Code.GPU_DRIVER_RIM_MISMATCH, reason)
    if len(driver) > 1 or len(vbios) > 1:
        raise Unusable("one manifest is enough of a driver, and one of a VBIOS")
    match = compare(claims, driver[0], vbios[0]) if driver and vbios else None
    return (*driver, *vbios), match


def _check_ocsp(
    responses: Sequence[bytes], chains: Sequence[Sequence[Certificate]], at: int
) -> int | None:
    """Return the oldest this-update if there are responses for all of the chains, else None.

    Which chains responses are about is found by trying: two manifests may have one signer.
    """
    checked: dict[int, int] = {}
    for each in responses:
        checked |= _about(each, chains, at)
    return min(checked.values()) if len(checked) == len(chains) else None


def _about(responses: bytes, chains: Sequence[Sequence[Certificate]], at: int) -> dict[int, int]:
    """Return the this-update by the index of each chain that the responses hold for."""
    held, refused = {}, []
    for index, chain in enumerate(chains):
        try:
            held[index] = ocsp.check_all(responses, chain, at=at).this_update
        except Refused as error:
            refused.append(error)
    if not held:
        raise refused[0]
    return held


def _is_xml(data: bytes) -> bool:
    return data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
