"""Quotes of TPMs, real and virtual, through the command line, under roots of the tests'."""

from datetime import UTC, datetime

import pytest

from tests.support.evidence.tpm import (
    NOW,
    ROOTS,
    AzureMachine,
    Key,
    Machine,
    certification,
    chain_of,
)

AT = datetime.fromtimestamp(NOW, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
BOOT_ONLY = b'accepted-weaknesses = ["boot-only"]\n[tpm]\nsecure-boot = false\n'


def outcomes(ended):
    return {step["step"]: step["outcome"] for step in ended.json["verification"]}


@pytest.fixture(scope="module")
def tpm():
    machine = Machine()
    return {
        "kind": "tpm",
        "evidence": machine.evidence(),
        "chain": chain_of(machine.key),
        "event_log": machine.log,
        "root": [each.hex() for each in ROOTS],
        "at": AT,
    }


@pytest.fixture(scope="module")
def azure():
    machine = AzureMachine()
    return {
        "kind": "azure-vtpm",
        "evidence": machine.evidence(),
        "chain": machine.issuers,
        "event_log": machine.machine.log,
        "collateral": machine.snp_machine.crl(),
        "root": [each.hex() for each in machine.roots],
        "at": AT,
    }


def test_a_tpms_quote_is_boot_only_and_the_policy_must_name_that(verify, tpm):
    ended = verify("evidence", **tpm)
    assert (ended.code, ended.json["kind"]) == (0, "tpm")
    expected = {"evidence": "pass", "attestation-key": "pass", "event-log": "pass"}
    assert outcomes(ended) == {**expected, "policy": "skip"}
    assert "boot-only: host can read memory" in ended.output
    assert verify("evidence", policy=b"", **tpm).error == "platform-refused"
    assert verify("evidence", policy=BOOT_ONLY, **tpm).code == 0


def test_a_key_of_which_nothing_is_shown_is_authentic_to_nobody_elses_policy(verify, tpm):
    alone = {**tpm, "chain": None, "event_log": None}
    ended = verify("evidence", **alone)
    expected = {"evidence": "pass", "attestation-key": "skip", "event-log": "skip"}
    assert (ended.code, outcomes(ended)) == (0, {**expected, "policy": "skip"})
    assert verify("evidence", policy=BOOT_ONLY, **alone).error == "tpm-ak-unproven"


def test_a_key_that_another_key_has_certified(verify, tpm):
    certifier = Key()
    made = certification(certifier, Machine().key)
    ended = verify("evidence", **{**tpm, "chain": chain_of(certifier), "collateral": made})
    assert (ended.code, ended.json["ak_provenance"]) == (0, "certification")


def test_azures_virtual_tpm_is_vouched_for_by_its_hardware(verify, azure):
    ended = verify("evidence", **azure)
    assert (ended.code, ended.json["tee"]) == (0, "snp")
    assert {outcome for step, outcome in outcomes(ended).items() if step != "policy"} == {"pass"}
    accepting = b"[snp.min-reported-tcb]\n[tpm]\nsecure-boot = false\n"
    assert outcomes(verify("evidence", policy=accepting, **azure))["policy"] == "pass"
    ended = verify("evidence", **{**azure, "chain": None})
    assert (ended.code, ended.error) == (1, "snp-chain-malformed")
    assert verify("evidence", **{**azure, "collateral": [b"x", b"y"]}).code == 2
