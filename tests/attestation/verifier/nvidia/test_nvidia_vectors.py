"""The real evidence of the folder beside the repository, decided as its index says."""

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from attestation.errors import Code, Refused
from attestation.verifier.nvidia import rim
from attestation.verifier.nvidia.verify import verify
from attestation.verifier.roots import NVIDIA

FOLDER = Path(__file__).resolve().parents[5] / "shared/vectors/attestation"
REPORTS, MANIFESTS = "nvidia-gpu-spdm-report", "nvidia-rim-swid-xmldsig"
AT = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())
"""The index names no time for these; the manifest's signer ends on 2026-12-30."""

EXPECTED = {
    "h100_nvsdk_bad_signature": Code.GPU_SIGNATURE_BAD,
    "rim_driver_bad_signature": Code.GPU_RIM_SIGNATURE_BAD,
}

pytestmark = pytest.mark.skipif(
    not (FOLDER / "index.json").exists(), reason="../shared/vectors/attestation is not there"
)


@cache
def index():
    if not (FOLDER / "index.json").exists():
        return []
    return json.loads((FOLDER / "index.json").read_text())["vectors"]


def vectors(kind, expect):
    found = [each for each in index() if each["kind"] == kind and each["expect"] == expect]
    return pytest.mark.parametrize("vector", found, ids=lambda each: each["id"])


def read(name):
    return (FOLDER / name).read_bytes()


def verified(vector):
    if vector["kind"] == REPORTS:
        return verify(read(vector["file"]), read(vector["chain"]), roots=NVIDIA, at=AT)
    return rim.verify(read(vector["file"]), roots=NVIDIA, at=AT)


def code(vector):
    with pytest.raises(Refused) as caught:
        verified(vector)
    return caught.value.code


@vectors(REPORTS, "valid")
def test_a_valid_report_states_what_the_index_expects(vector):
    stated = verified(vector).to_json()
    expected = vector["expected_fields"]
    assert {name: stated[name] for name in expected} == expected


@vectors(MANIFESTS, "valid")
def test_a_valid_manifest_is_accepted(vector):
    golden = verified(vector).golden
    assert golden.version in vector["id"]
    assert golden.product == "GH100"


@vectors(REPORTS, "invalid")
def test_an_invalid_report_is_refused_with_its_code(vector):
    assert code(vector) == EXPECTED[vector["id"]]


@vectors(MANIFESTS, "invalid")
def test_an_invalid_manifest_is_refused_with_its_code(vector):
    assert code(vector) == EXPECTED[vector["id"]]


def test_every_vector_of_this_vendor_was_decided():
    kinds = {each["kind"] for each in index() if "nvidia" in each["file"]}
    assert kinds == {REPORTS, MANIFESTS}


@vectors(REPORTS, "valid")
def test_no_flipped_byte_of_a_real_report_is_accepted(vector):
    report, chain = read(vector["file"]), read(vector["chain"])
    for at in range(0, len(report), 97):
        changed = report[:at] + bytes([report[at] ^ 0x10]) + report[at + 1 :]
        with pytest.raises(Refused) as caught:
            verify(changed, chain, roots=NVIDIA, at=AT)
        assert caught.value.code in {Code.GPU_SIGNATURE_BAD, Code.GPU_REPORT_MALFORMED}
