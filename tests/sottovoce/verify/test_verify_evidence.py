"""Evidence of every kind through the command line, made under roots of the tests'."""

import json
from datetime import UTC, datetime

import pytest

from tests.support.evidence import nvidia
from tests.support.evidence.amd import SnpMachine
from tests.support.evidence.authority import NOT_BEFORE
from tests.support.evidence.intel import NOW, IntelNode


def rfc3339(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def roots(*fingerprints):
    return [each.hex() for each in fingerprints]


@pytest.fixture(scope="module")
def tdx():
    node = IntelNode()
    return {
        "kind": "tdx",
        "evidence": node.quote(),
        "collateral": node.collateral(),
        "root": roots(node.root),
        "at": rfc3339(NOW),
    }


@pytest.fixture(scope="module")
def snp():
    machine = SnpMachine()
    return {
        "kind": "snp",
        "evidence": machine.quote(),
        "chain": [machine.key_certificate.der, machine.ask.pem + machine.ark.pem],
        "collateral": machine.crl(),
        "root": roots(*machine.roots),
        "at": rfc3339(NOT_BEFORE + 86_400),
    }


@pytest.fixture(scope="module")
def gpu():
    leaf = nvidia.attestation_key()
    return {
        "kind": "nvidia",
        "evidence": nvidia.Report().encode(),
        "chain": nvidia.pem(leaf),
        "root": roots(*nvidia.roots()),
        "at": rfc3339(nvidia.NOW),
    }


@pytest.fixture(scope="module")
def gpu_collateral():
    signer = nvidia.rim_signer()
    return [
        nvidia.manifest(),
        nvidia.ocsp_responses(nvidia.attestation_key().issuer),
        nvidia.vbios_manifest(),
        nvidia.ocsp_responses(signer),
    ]


def outcomes(ended):
    return {step["step"]: step["outcome"] for step in ended.json["verification"]}


def test_a_quote_is_authentic_and_acceptable(verify, tdx):
    ended = verify("evidence", **tdx)
    assert ended.code == 0
    assert outcomes(ended) == {"evidence": "pass", "event-log": "skip", "policy": "skip"}
    assert (ended.json["kind"], ended.json["tee"], ended.json["version"]) == ("tdx", "TDX", 4)
    ended = verify("evidence", policy=b"", **tdx)
    assert (ended.code, outcomes(ended)["policy"]) == (0, "pass")


def test_the_pinned_roots_are_the_vendors_where_no_other_is_named(verify, tdx):
    ended = verify("evidence", **{**tdx, "root": None})
    assert (ended.code, ended.error) == (1, "tdx-root-unknown")
    stranger = [*tdx["root"], "00" * 32]
    assert verify("evidence", **{**tdx, "root": stranger}).code == 0
    coloned = ":".join(tdx["root"][0][i : i + 2] for i in range(0, 64, 2))
    assert verify("evidence", **{**tdx, "root": coloned}).code == 0


def test_what_the_policy_refuses(verify, tdx):
    strict = b"[tdx]\nmin-tcb-evaluation-number = 99\n"
    ended = verify("evidence", policy=strict, **tdx)
    assert (ended.code, ended.error) == (1, "tdx-tcb-evaluation-too-old")
    other = b'platforms = ["snp"]'
    assert verify("evidence", policy=other, **tdx).error == "platform-refused"
    unsafe = b"accept-everything-unsafe = true"
    assert verify("evidence", policy=unsafe, **tdx).code == 0
    shown = verify("evidence", policy=other, as_json=False, **tdx)
    assert "pass" in shown.output
    assert "fail" in shown.output


def test_a_quote_without_collateral_or_with_too_much(verify, tdx):
    ended = verify("evidence", **{**tdx, "collateral": None})
    assert (ended.code, ended.error) == (1, "tdx-collateral-missing")
    assert verify("evidence", **{**tdx, "collateral": [tdx["collateral"]] * 2}).code == 2
    assert verify("evidence", chain=b"x", **tdx).code == 2
    assert verify("evidence", event_log=b"x", **tdx).error == "tdx-event-log-malformed"


def test_an_enclave_has_no_event_log_and_is_no_trust_domain(verify):
    node = IntelNode(version=3)
    files = {
        "kind": "tdx",
        "evidence": node.quote(),
        "collateral": node.collateral(),
        "root": roots(node.root),
        "at": rfc3339(NOW),
    }
    assert verify("evidence", **files).json["tee"] == "SGX"
    assert verify("evidence", event_log=b"x", **files).code == 2
    assert verify("evidence", policy=b"", **files).error == "tdx-not-a-td"


def test_a_report_is_judged_with_its_revocation_list_or_says_that_it_was_not(verify, snp):
    ended = verify("evidence", policy=b"", **snp)
    assert (ended.code, outcomes(ended)["revocation"]) == (0, "pass")
    without = {**snp, "collateral": None}
    ended = verify("evidence", **without)
    assert (ended.code, outcomes(ended)["revocation"]) == (0, "skip")
    assert verify("evidence", policy=b"", **without).code == 1
    assert verify("evidence", event_log=b"x", **snp).code == 2
    ended = verify("evidence", **{**snp, "chain": b"x"})
    assert (ended.code, ended.error) == (1, "snp-chain-malformed")
    # The issuers that are known here are AMD's own, and this leaf's are the tests'.
    ended = verify("evidence", **{**snp, "chain": snp["chain"][0]})
    assert (ended.code, ended.error) == (1, "snp-chain-malformed")


def test_a_leaf_whose_issuers_are_not_known_here(verify):
    machine = SnpMachine(line="Turin")
    files = {"kind": "snp", "evidence": machine.quote(), "chain": machine.key_certificate.pem}
    ended = verify("evidence", at=rfc3339(NOT_BEFORE + 86_400), **files)
    assert (ended.code, ended.error) == (1, "snp-chain-malformed")


def test_a_gpu_alone_leaves_its_measurements_and_revocation_open(verify, gpu):
    ended = verify("evidence", **gpu)
    assert ended.code == 0
    expected = {"reference-measurements": "skip", "revocation": "skip", "policy": "skip"}
    assert outcomes(ended) == {"evidence": "pass", **expected}
    assert (ended.json["format"], ended.json["driver_version"]) == ("spdm", nvidia.DRIVER)
    assert verify("evidence", policy=b"", **gpu).error == "gpu-rim-missing"
    assert verify("evidence", **{**gpu, "chain": None}).error == "gpu-chain-missing"
    assert verify("evidence", event_log=b"x", **gpu).code == 2


def test_a_gpu_with_all_its_collateral_is_acceptable(verify, gpu, gpu_collateral):
    ended = verify("evidence", collateral=gpu_collateral, policy=b"", **gpu)
    assert ended.code == 0, ended.output
    assert set(outcomes(ended).values()) == {"pass"}
    ended = verify("evidence", collateral=gpu_collateral[:2], **gpu)
    assert outcomes(ended)["reference-measurements"] == "skip"


def test_collateral_that_is_of_no_gpu(verify, gpu, gpu_collateral):
    other = nvidia.manifest("570.00.00")
    ended = verify("evidence", collateral=[other], **gpu)
    assert (ended.code, ended.error) == (1, "gpu-driver-rim-mismatch")
    assert verify("evidence", collateral=[gpu_collateral[0]] * 2, **gpu).code == 2
    ended = verify("evidence", collateral=b"no OCSP", **gpu)
    assert (ended.code, ended.error) == (1, "gpu-ocsp-malformed")


def test_a_manifest_by_itself(verify, gpu, gpu_collateral):
    manifest = {**gpu, "evidence": gpu_collateral[0], "chain": None}
    ended = verify("evidence", policy=b"", **manifest)
    assert (ended.code, ended.json["format"]) == (0, "rim")
    assert verify("evidence", **{**manifest, "chain": gpu["chain"]}).code == 2


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("tdx", "tdx-quote-malformed"),
        ("snp", "snp-malformed"),
        ("azure-vtpm", "azure-malformed"),
        ("gce-vtpm", "gce-malformed"),
        ("tpm", "tpm-malformed"),
    ],
)
@pytest.mark.parametrize("evidence", [b"", b"x", b"{}", b"\x00" * 4096])
def test_evidence_of_no_format(verify, kind, code, evidence):
    ended = verify("evidence", kind=kind, evidence=evidence)
    assert (ended.code, ended.error) == (1, code)


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "sgx"},
        {"at": "yesterday"},
        {"at": "2025-01-01"},
        {"at": "2025-13-01T00:00:00Z"},
        {"at": "1969-12-31T23:59:59Z"},
        {"at": "2025-01-01T00:00:00"},
        {"root": "zz"},
        {"root": "00"},
        {"policy": b"x"},
        {"policy": b"[tdx]\nx = 1"},
        {"policy": "/there/is/none"},
        {"evidence": "/there/is/none"},
        {"evidence": "/"},
        {"chain": "/there/is/none"},
    ],
)
def test_arguments_that_cannot_be_used(verify, tdx, changed):
    ended = verify("evidence", **{**tdx, **changed})
    assert (ended.code, ended.error) == (2, "unusable-arguments")


@pytest.mark.parametrize(
    "at", ["2027-01-15T08:00:00Z", "2027-01-15t08:00:00.5z", "2027-01-15 09:00:00+01:00"]
)
def test_a_time_has_several_spellings(verify, tdx, at):
    assert verify("evidence", **{**tdx, "at": at}).code == 0


def test_a_huge_file_is_refused_by_its_size_alone(verify, tdx, tmp_path):
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 30)
    for option in ("evidence", "collateral", "event_log", "policy"):
        ended = verify("evidence", **{**tdx, option: huge})
        assert (ended.code, ended.error) == (2, "unusable-arguments")


def test_a_missing_option_is_a_usage_error(verify):
    assert verify("evidence", as_json=False).code == 2


def test_a_person_sees_steps_claims_and_what_was_left_open(verify, tdx):
    ended = verify("evidence", as_json=False, **tdx)
    text = " ".join(ended.output.split())
    assert "no policy was given" in text
    assert "fmspc 70707E570000" in text
    assert "held, without event-log, policy" in text
    ended = verify("evidence", as_json=False, **{**tdx, "evidence": b"x"})
    assert ended.code == 1
    assert "tdx-quote-malformed" in ended.output
    assert "Give the file as the platform wrote it" in " ".join(ended.output.split())


def test_the_default_policy_in_plain_words(verify):
    ended = verify("policy", explain=True, as_json=False)
    assert ended.code == 0
    assert "The platform's TCB status is UpToDate." in ended.output
    for heading in ("node", "log", "engine", "tdx", "snp", "gpu", "tpm", "accepted weaknesses"):
        assert heading in ended.output
    ended = verify("policy", explain=True)
    assert ended.json["explanation"]["accepted weaknesses"][0].startswith("None")


def test_a_policy_and_every_value_in_it(verify):
    ended = verify("policy", policy=b'accepted-weaknesses = ["boot-only"]')
    assert ended.code == 0
    assert ended.json["accepted-weaknesses"] == ["boot-only"]
    assert ended.json["tdx"]["accepted-statuses"] == ["UpToDate"]
    assert ended.json["accepts_everything"] is False
    assert json.loads(ended.output)["snp"]["min-reported-tcb"]["milan.snp"] == 29
    assert "tdx" in verify("policy", as_json=False).output
    assert verify("policy", policy=b"x = 1").code == 2


def test_the_unsafe_policy_says_so(verify):
    unsafe = b"accept-everything-unsafe = true"
    assert verify("policy", policy=unsafe).json["accepts_everything"] is True
    assert "UNSAFE" in verify("policy", policy=unsafe, explain=True, as_json=False).output
