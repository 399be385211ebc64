"""What is demanded of a TPM's quote: one code a rule, and a plain sentence for each."""

import pytest

from attestation.errors import Code
from attestation.verifier.tpm import quote
from attestation.verifier.tpm.policy import TpmPolicy
from tests.support.evidence.tpm import (
    DRIVER_CONFIG,
    NOW,
    ROOTS,
    SHA1,
    SHA384,
    Event,
    Machine,
    chain_of,
    variable,
)


def claims_of(machine=None, *, proven=True, log=True):
    machine = machine or Machine()
    return quote.verify(
        machine.evidence(),
        chain=chain_of(machine.key) if proven else b"",
        event_log=machine.log if log else b"",
        roots=ROOTS,
        at=NOW,
    )


OFF = Machine(events=(Event(7, DRIVER_CONFIG, variable("SecureBoot", b"\x00")),))
OLD = Machine(quote_options={"clock": 21 * 366 * 86_400_000})


def test_an_ordinary_quote_satisfies_the_default():
    assert "certificate" in TpmPolicy().check(claims_of(), at=NOW)


@pytest.mark.parametrize(
    ("claims", "code", "lenient"),
    [
        (
            claims_of(proven=False),
            Code.TPM_AK_UNPROVEN,
            TpmPolicy(provenance=frozenset({"unproven"})),
        ),
        (
            claims_of(Machine(indices=(0, 7))),
            Code.TPM_REGISTERS_MISSING,
            TpmPolicy(registers=frozenset({"0", "7"})),
        ),
        (
            claims_of(Machine(banks=(SHA384,)), log=False),
            Code.TPM_REGISTERS_MISSING,
            TpmPolicy(bank="sha384", secure_boot=False),
        ),
        (claims_of(log=False), Code.TPM_SECURE_BOOT_UNKNOWN, TpmPolicy(secure_boot=False)),
        (claims_of(OFF), Code.TPM_SECURE_BOOT_OFF, TpmPolicy(secure_boot=False)),
        (claims_of(OLD), Code.TPM_CLOCK, TpmPolicy(max_clock_s=22 * 366 * 86_400)),
    ],
)
def test_each_rule_has_its_code_and_its_way_to_give_it_up(claims, code, lenient, refusal):
    assert refusal(TpmPolicy().check, claims, at=NOW) is code
    assert lenient.check(claims, at=NOW)


def test_sha1_never_counts(refusal):
    claims = claims_of(Machine(banks=(SHA1,)), log=False)
    assert refusal(TpmPolicy().check, claims, at=NOW) is Code.TPM_REGISTERS_MISSING


@pytest.mark.parametrize(
    "fields",
    [
        {"bank": "sha1"},
        {"bank": "sha3"},
        {"registers": frozenset({"24"})},
        {"registers": frozenset({"00"})},
        {"provenance": frozenset()},
        {"provenance": frozenset({"word of mouth"})},
    ],
)
def test_a_policy_demands_what_there_is(fields):
    with pytest.raises(ValueError, match=r"bank|register|reason"):
        TpmPolicy(**fields)


def test_every_rule_is_explained():
    sentences = TpmPolicy().explain()
    assert "certificate or certification or hardware" in sentences[0]
    assert "0, 2, 4, 7, 8, 9, 11, 12, 13, 14" in sentences[1]
    assert "must have been on" in sentences[2]
    assert "632448000 s" in sentences[3]
    lenient = TpmPolicy(registers=frozenset(), secure_boot=False).explain()
    assert "registers none" in lenient[1]
    assert "may have been off" in lenient[2]
