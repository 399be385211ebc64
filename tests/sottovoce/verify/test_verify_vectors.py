"""Evidence of real machines, published by others, through the command line: each as its index says.

`../shared/vectors/attestation` is not part of the repository; where it is absent, this skips.
"""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[4] / "shared" / "vectors" / "attestation"
INDEX = FOLDER / "index.json"
pytestmark = pytest.mark.skipif(not INDEX.is_file(), reason=f"no published evidence at {FOLDER}")

KINDS = {
    "intel-dcap-quote": "tdx",
    "amd-sev-snp-report": "snp",
    "nvidia-gpu-spdm-report": "nvidia",
    "nvidia-rim-swid-xmldsig": "nvidia",
    "azure-cvm-vtpm-evidence": "azure-vtpm",
    "gce-vtpm-attestation-protobuf": "gce-vtpm",
}
ENDS = {"valid": 0, "invalid": 1, "parse-only": 1}
"""Parse-only: authentic or not, there is nothing to judge it by."""

CODES = {
    "tdx_v5_alibaba_service_td": "tdx-service-td",
    "snp_v2_milan_trustee_bad_vcek": "snp-chain-bad",
    "h100_nvsdk_bad_signature": "gpu-signature-bad",
    "rim_driver_bad_signature": "gpu-rim-signature-bad",
}
UNDER_THE_DEFAULT_POLICY = {
    "tdx_v4_phala": "tdx-collateral-too-old",
    "sgx_v3_phala": "tdx-not-a-td",
    "snp_v2_milan_google": "snp-debug",
    "h100_nvtrust_550": "gpu-rim-missing",
    "gce-cos-85-nonce9009": "platform-refused",
}


def vectors(*names):
    index = json.loads(INDEX.read_text())["vectors"] if INDEX.is_file() else []
    found = [each for each in index if each["expect"] in ENDS]
    return [each for each in found if not names or each["id"] in names]


def options(vector):
    """What the command is given: the files that the index names for it, by their options."""
    found = {"kind": KINDS[vector["kind"]], "evidence": FOLDER / vector["file"]}
    found["at"] = vector.get("valid_at_iso", "2026-01-01T00:00:00Z")
    found["chain"] = [FOLDER / vector[name] for name in ("vcek", "chain") if name in vector]
    for name in ("collateral", "event_log"):
        if name in vector:
            found[name] = FOLDER / vector[name]
    return found


def test_the_index_is_covered_whole():
    index = json.loads(INDEX.read_text())["vectors"]
    judged = {each["kind"] for each in index if each["expect"] != "data"}
    assert judged == set(KINDS)
    assert len(vectors()) >= 18


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["id"])
def test_each_vector_is_decided_as_its_index_says(verify, vector):
    ended = verify("evidence", **options(vector))
    assert ended.code == ENDS[vector["expect"]]
    if ended.code:
        assert ended.error == CODES.get(vector["id"], ended.error)
        return
    expected = vector.get("expected_fields", {})
    if isinstance(expected, list):
        for quote, each in zip(ended.json["quotes"], expected, strict=True):
            assert (quote["extraData"], quote["pcrDigest"]) == (
                each["extraData"],
                each["pcrDigest"],
            )
    else:
        assert {name: ended.json.get(name) for name in expected} == expected
    assert ended.json["kind"] == KINDS[vector["kind"]]
    assert ended.json.get("status") == vector.get("expected_status", ended.json.get("status"))
    assert ended.json.get("advisory_ids") == vector.get(
        "advisory_ids", ended.json.get("advisory_ids")
    )
    assert (ended.outcome("evidence"), ended.outcome("policy")) == ("pass", "skip")


@pytest.mark.parametrize(
    "vector", vectors(*UNDER_THE_DEFAULT_POLICY), ids=lambda vector: vector["id"]
)
def test_authentic_is_not_yet_acceptable(verify, vector):
    ended = verify("evidence", policy=b"", **options(vector))
    assert (ended.code, ended.error) == (1, UNDER_THE_DEFAULT_POLICY[vector["id"]])


@pytest.mark.parametrize("vector", vectors("tdx_v4_phala"), ids=lambda vector: vector["id"])
def test_what_the_policy_accepts_is_acceptable(verify, vector):
    patient = b"[tdx]\nmax-collateral-age-s = 2592000\n"
    ended = verify("evidence", policy=patient, **options(vector))
    assert (ended.code, ended.outcome("policy")) == (0, "pass")


@pytest.mark.parametrize("vector", vectors("tdx_v4_phala"), ids=lambda vector: vector["id"])
@pytest.mark.parametrize("at", ["2025-06-01T00:00:00Z", "2025-09-01T00:00:00Z"])
def test_outside_the_window_of_its_collateral_a_quote_is_refused(verify, vector, at):
    assert verify("evidence", **{**options(vector), "at": at}).code == 1
