from dataclasses import fields, replace

import pytest

from attestation.errors import Code, Refused
from attestation.verifier.nvidia.claims import GpuClaims, Match
from attestation.verifier.nvidia.opaque import MultiGpuMode
from attestation.verifier.nvidia.policy import GpuPolicy, driver_number
from tests.support.evidence.nvidia import NOW

CLAIMS = GpuClaims(
    chip="GH100",
    architecture="hopper",
    device=b"d" * 32,
    attestation_key=b"k" * 32,
    nonce=bytes(32),
    driver_version="550.90.07",
    vbios_version="96.00.9F.00.01",
    multi_gpu_mode=MultiGpuMode.SINGLE,
    nvdec0_disabled=False,
    measurements={1: b"m"},
    firmware_id=b"",
    signature_offset=4000,
    length=4096,
    match=Match(frozenset({9, 20}), mode_measured=True),
    revocation_checked_at=NOW - 3600,
)
UNMEASURED = Match(frozenset({20}), mode_measured=False)
BLACKWELL = replace(
    CLAIMS, chip="GB100", architecture="blackwell", driver_version="575.32", match=UNMEASURED
)


def code(policy=None, claims=CLAIMS, at=NOW, **changes):
    with pytest.raises(Refused) as caught:
        (policy or GpuPolicy()).check(replace(claims, **changes), at=at)
    return caught.value.code


def accepts(policy, claims=CLAIMS, **changes):
    return policy.check(replace(claims, **changes), at=NOW)


def test_the_default_accepts_a_gpu_of_which_everything_is_shown():
    reason = accepts(GpuPolicy())
    assert reason == "GH100, driver 550.90.07, VBIOS 96.00.9F.00.01"
    assert CLAIMS.to_json()["confidential_mode_measured"] is True
    assert CLAIMS.to_json()["measurements_compared"] == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"architecture": "unknown"}, Code.GPU_ARCHITECTURE_REFUSED),
        ({"driver_version": "549.999.99"}, Code.GPU_DRIVER_TOO_OLD),
        ({"driver_version": ""}, Code.GPU_DRIVER_TOO_OLD),
        ({"driver_version": "550.x"}, Code.GPU_DRIVER_TOO_OLD),
        ({"multi_gpu_mode": MultiGpuMode.PROTECTED_PCIE}, Code.GPU_MULTI_GPU_MODE_REFUSED),
        ({"multi_gpu_mode": MultiGpuMode.UNSTATED}, Code.GPU_MULTI_GPU_MODE_REFUSED),
        ({"multi_gpu_mode": MultiGpuMode.UNKNOWN}, Code.GPU_MULTI_GPU_MODE_REFUSED),
        ({"match": None}, Code.GPU_RIM_MISSING),
        ({"match": UNMEASURED}, Code.GPU_CONFIDENTIAL_MODE_NOT_SHOWN),
        ({"revocation_checked_at": None}, Code.GPU_OCSP_MISSING),
        ({"revocation_checked_at": NOW - 86_401}, Code.GPU_OCSP_TOO_OLD),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_default_refuses_each_thing_that_is_not_shown(changes, expected):
    assert code(**changes) == expected


def test_the_default_refuses_blackwell_for_its_mode_is_not_measured():
    assert code(claims=BLACKWELL) == Code.GPU_CONFIDENTIAL_MODE_NOT_SHOWN
    assert accepts(GpuPolicy(mode_by_release=frozenset({"blackwell"})), BLACKWELL)


def test_devtools_are_refused_by_a_rule_of_their_own():
    policy = GpuPolicy(confidential_mode=False)
    assert code(policy, BLACKWELL) == Code.GPU_DEVTOOLS_NOT_EXCLUDED
    assert accepts(GpuPolicy(confidential_mode=False, no_devtools=False), BLACKWELL)


def test_each_rule_can_be_given_up_by_name():
    no_rims = GpuPolicy(rim=False, mode_by_release=frozenset({"hopper"}))
    assert accepts(no_rims, match=None)
    assert code(GpuPolicy(rim=False), match=None) == Code.GPU_CONFIDENTIAL_MODE_NOT_SHOWN
    assert accepts(GpuPolicy(ocsp=False), revocation_checked_at=None)
    assert code(GpuPolicy(ocsp=False), revocation_checked_at=0) == Code.GPU_OCSP_TOO_OLD
    assert accepts(GpuPolicy(minimum_driver={}), driver_version="")
    linked = GpuPolicy(multi_gpu_modes=frozenset({"ppcie"}))
    assert accepts(linked, multi_gpu_mode=MultiGpuMode.PROTECTED_PCIE)
    assert code(GpuPolicy(architectures=frozenset({"blackwell"}))) == Code.GPU_ARCHITECTURE_REFUSED


def test_responses_of_exactly_the_greatest_age_are_accepted():
    assert accepts(GpuPolicy(max_ocsp_age_s=60), revocation_checked_at=NOW - 60)


def test_a_time_for_manifests_that_does_not_exist():
    with pytest.raises(ValueError, match="rim_time"):
        GpuPolicy(rim_time="never")


def test_versions_of_drivers_are_ordered():
    versions = ["x", "535.104.05", "550", "550.54.15", "550.90.7", "560.00", "580.159.03"]
    numbers = [driver_number(version) for version in versions]
    assert numbers == sorted(numbers)
    assert driver_number("550.90.07") == 550_090_007
    for none in ("", "5..5", "1.2.3.4", "-1.2", "\u0661.2", "5e3"):
        assert driver_number(none) == -1
    assert driver_number("99999.1") == 999_001_000


def test_every_rule_is_explained_in_a_sentence():
    sentences = GpuPolicy().explain()
    assert len(sentences) == len(fields(GpuPolicy))
    assert all(sentence.endswith(".") for sentence in sentences)
    text = " ".join(sentences)
    for word in ("blackwell, hopper", "hopper 550.00.00", "mpt, spt", "24 hours", "valid now"):
        assert word in text
    assert "need not" not in text


def test_what_is_given_up_is_explained_too():
    policy = GpuPolicy(
        architectures=frozenset(),
        minimum_driver={},
        confidential_mode=False,
        rim_time="logged",
        mode_by_release=frozenset({"blackwell"}),
    )
    text = " ".join(policy.explain())
    for word in ("architectures: none", "older than: any", "need not", "logged", "of blackwell"):
        assert word in text
