"""A node's GPUs together: what must belong to one another."""

from dataclasses import replace
from functools import cache

import pytest
from cryptography.x509.ocsp import OCSPCertStatus

from attestation.errors import Code, Refused
from attestation.gpu_nonce import gpu_nonce
from attestation.report_data import NO_NONCE
from attestation.verifier.nvidia import node
from attestation.verifier.nvidia.node import check_gpus, collateral_names
from attestation.verifier.nvidia.policy import GpuPolicy
from tests.support.evidence.nvidia import (
    MEASUREMENTS,
    NOW,
    VBIOS,
    VBIOS_INDEXES,
    Report,
    attestation_key,
    golden,
    manifest,
    ocsp_response,
    ocsp_responses,
    pem,
    rim_signer,
    roots,
    vbios_manifest,
)

DIGEST = b"\x6b" * 32
NAMES = ("one", "two")


@cache
def parts():
    """The collateral of an honest node with two GPUs."""
    answers = ocsp_responses(rim_signer())
    found = {
        "rim.0": manifest(),
        "rim-ocsp.0": answers,
        "rim.1": vbios_manifest(),
        "rim-ocsp.1": answers,
    }
    for index, name in enumerate(NAMES):
        leaf = attestation_key(name)
        found[f"nvidia.{index}-chain"] = pem(leaf)
        found[f"nvidia.{index}-ocsp"] = ocsp_responses(leaf.issuer)
    return found


def report(index, name, *, nonce=NO_NONCE, digest=DIGEST, **changes):
    made = Report(nonce=gpu_nonce(digest, index, nonce), **changes)
    return made.encode(attestation_key(name).key)


@cache
def reports():
    return tuple(report(index, name) for index, name in enumerate(NAMES))


def check(given=None, collateral=None, *, count=2, policy=None, nonce=NO_NONCE, **options):
    return check_gpus(
        reports() if given is None else given,
        parts() if collateral is None else collateral,
        key_document_digest=DIGEST,
        nonce=nonce,
        count=count,
        policy=policy or GpuPolicy(),
        roots=roots(),
        at=options.pop("at", NOW),
        **options,
    )


def code(*args, **kwargs):
    with pytest.raises(Refused) as caught:
        check(*args, **kwargs)
    return caught.value.code


def without(*names, **changes):
    return {name: part for name, part in parts().items() if name not in names} | changes


def test_an_honest_node_is_accepted_under_the_default_policy():
    gpus = check()
    assert gpus.reason == "2 distinct GPUs: GH100, driver 550.90.07, VBIOS 96.00.9F.00.01"
    assert len({each.device for each in gpus.claims}) == 2
    assert all(each.match.mode_measured for each in gpus.claims)
    assert all(each.revocation_checked_at == NOW - 3600 for each in gpus.claims)


def test_a_node_without_gpus_needs_nothing():
    assert check((), {}, count=0).reason == "no GPU"
    assert code((), {"rim.0": parts()["rim.0"]}, count=0) == Code.QUOTE_UNCHECKED_EVIDENCE


def test_as_many_reports_as_the_key_document_states():
    assert code(reports()[:1]) == Code.GPU_REPORTS_MISSING
    assert code(count=1) == Code.GPU_REPORTS_SURPLUS


def test_a_gpu_without_certificates():
    assert code(collateral=without("nvidia.1-chain")) == Code.GPU_CHAIN_MISSING


def test_a_report_for_another_key_document_nonce_or_place():
    for other in (
        report(1, "two", digest=b"\x6c" * 32),
        report(1, "two", nonce=b"\x01" * 32),
        report(0, "two"),
    ):
        assert code((reports()[0], other)) == Code.GPU_NONCE_MISMATCH
    assert code(nonce=b"\x01" * 32) == Code.GPU_NONCE_MISMATCH


def test_a_fresh_nonce_reaches_every_gpu():
    fresh = tuple(report(i, name, nonce=b"\x01" * 32) for i, name in enumerate(NAMES))
    assert len(check(fresh, nonce=b"\x01" * 32).claims) == 2


def test_one_gpu_that_answers_as_two():
    again = (reports()[0], report(1, "one"))
    collateral = without(**{f"nvidia.1-{kind}": parts()[f"nvidia.0-{kind}"] for kind in KINDS})
    assert code(again, collateral) == Code.GPU_NOT_DISTINCT


KINDS = ("chain", "ocsp")


def test_one_gpu_that_answers_as_two_under_two_firmwares():
    other = attestation_key("one", firmware="newer")
    made = Report(nonce=gpu_nonce(DIGEST, 1)).encode(other.key)
    collateral = without(
        **{"nvidia.1-chain": pem(other), "nvidia.1-ocsp": parts()["nvidia.0-ocsp"]}
    )
    assert code((reports()[0], made), collateral) == Code.GPU_NOT_DISTINCT


def test_two_devices_with_one_attestation_key():
    borrowed = attestation_key("two", key=attestation_key("one").key)
    made = Report(nonce=gpu_nonce(DIGEST, 1)).encode(borrowed.key)
    collateral = without(**{"nvidia.1-chain": pem(borrowed)})
    assert code((reports()[0], made), collateral) == Code.GPU_NOT_DISTINCT


def test_what_is_there_is_verified_even_if_nothing_demands_it():
    lax = GpuPolicy(rim=False, ocsp=False, mode_by_release=frozenset({"hopper"}))
    assert check(policy=lax).claims[0].match is not None
    for name in parts():
        if name != "nvidia.0-chain" and not name.endswith("-chain"):
            assert code(collateral=without(**{name: b"junk"}), policy=lax).startswith("gpu-")
    bare = {name: part for name, part in parts().items() if name.endswith("-chain")}
    claims = check(collateral=bare, policy=lax).claims
    assert claims[0].match is None
    assert claims[0].revocation_checked_at is None


def test_manifests_that_are_missing_or_of_another_version():
    assert code(collateral=without("rim.0", "rim.1")) == Code.GPU_RIM_MISSING
    newer = without(**{"rim.0": manifest("550.90.08")})
    assert code(collateral=newer) == Code.QUOTE_UNCHECKED_EVIDENCE


def test_a_manifest_that_no_gpu_needs():
    assert code(collateral=without(**{"rim.2": parts()["rim.1"]})) == Code.QUOTE_UNCHECKED_EVIDENCE


def test_boards_with_one_vbios_version_may_have_a_manifest_each():
    other = {index + 1: bytes([index]) * 48 for index in VBIOS_INDEXES}
    measured = {**MEASUREMENTS, **other}
    second = manifest(VBIOS, {index: [other[index + 1]] for index in VBIOS_INDEXES})
    collateral = without(**{"rim.2": second, "rim-ocsp.2": parts()["rim-ocsp.1"]})
    mixed = (reports()[0], report(1, "two", measurements=measured))
    assert len(check(mixed, collateral).claims) == 2
    neither = {**measured, 2: b"\x99" * 48}
    worse = (reports()[0], report(1, "two", measurements=neither))
    assert code(worse, collateral) == Code.GPU_MEASUREMENT_MISMATCH


def test_a_measurement_that_is_not_golden():
    changed = report(1, "two", measurements={**MEASUREMENTS, 21: b"\x99" * 48})
    assert code((reports()[0], changed)) == Code.GPU_MEASUREMENT_MISMATCH


def test_both_manifests_stating_one_measurement():
    collateral = without(**{"rim.1": manifest(VBIOS, golden([9, 20]))})
    assert code(collateral=collateral) == Code.GPU_RIM_CONFLICT


@pytest.mark.parametrize("name", ["nvidia.1-ocsp", "rim-ocsp.0", "rim-ocsp.1"])
def test_a_response_that_is_missing(name):
    assert code(collateral=without(name)) == Code.GPU_OCSP_MISSING


def test_a_device_or_a_signer_that_is_revoked():
    device, signer = attestation_key("two").issuer, rim_signer()
    for name, holder in (("nvidia.1-ocsp", device), ("rim-ocsp.0", signer)):
        above = ocsp_responses(holder.issuer)
        revoked = ocsp_response(holder, status=OCSPCertStatus.REVOKED) + above
        assert code(collateral=without(**{name: revoked})) == Code.GPU_OCSP_REVOKED


def test_the_oldest_response_counts():
    holder = rim_signer()
    old = ocsp_responses(holder, this_update=NOW - 90_000)
    assert code(collateral=without(**{"rim-ocsp.1": old})) == Code.GPU_OCSP_TOO_OLD


def test_a_manifest_is_checked_at_the_time_that_the_policy_names():
    ended = rim_signer(not_after=NOW - 3600)
    collateral = without(**{"rim.0": manifest(signer=ended), "rim-ocsp.0": ocsp_responses(ended)})
    logged = replace(GpuPolicy(), rim_time="logged")
    assert code(collateral=collateral) == Code.GPU_RIM_EXPIRED
    assert code(collateral=collateral, policy=logged) == Code.GPU_RIM_TIME_UNKNOWN
    assert len(check(collateral=collateral, policy=logged, rims_logged_at=NOW - 7200).claims) == 2
    assert code(collateral=collateral, rims_logged_at=NOW - 7200) == Code.GPU_RIM_EXPIRED


def test_the_policy_has_the_last_word_on_each_gpu():
    assert code(policy=GpuPolicy(architectures=frozenset())) == Code.GPU_ARCHITECTURE_REFUSED


def test_the_names_of_what_is_used():
    assert collateral_names(parts(), 2) == frozenset(parts())
    assert collateral_names(without(**{"amd-chain": b"x"}), 2) == frozenset(parts())
    fewer = collateral_names(parts(), 1)
    assert frozenset(parts()) - fewer == {"nvidia.1-chain", "nvidia.1-ocsp"}
    gap = collateral_names(without("rim.0"), 2)
    assert not any(name.startswith("rim") for name in gap)
    many = {f"rim.{k}": b"x" for k in range(node.MAX_RIMS + 1)}
    assert len(collateral_names(many, 0)) == node.MAX_RIMS
