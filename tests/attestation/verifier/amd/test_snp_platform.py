"""An SNP report as the quote of a node's bundle, under a root of the tests'."""

import pytest

from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import Code, Refused
from attestation.verifier.amd.platform import NAME
from attestation.verifier.amd.policy import SnpPolicy
from attestation.verifier.platforms import PLATFORMS
from attestation.verifier.policy import ClientPolicy
from tests.support.evidence.amd import SnpMachine
from tests.support.evidence.authority import NOT_AFTER, NOT_BEFORE

NOW = NOT_BEFORE + 86400


def verify(machine, *, parts=None, event_log=b""):
    if parts is None:
        parts = {"amd-chain": machine.chain, "amd-crl": machine.crl()}
    bundle = Bundle(b"document", NAME, machine.quote(), b"policy", event_log=event_log)
    return PLATFORMS[NAME].verify(bundle, Collateral(parts), roots=machine.roots, at=NOW)


def refusal(call, *args, **kwargs):
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    return caught.value.code


def test_a_bundles_report_is_verified():
    quote = verify(SnpMachine(report_data=b"\x22" * 64))
    assert quote.measurement == b"\x4d" * 48
    assert quote.worth == "signed by a VCEK of AMD's for Milan-B0"
    assert quote.weaknesses == frozenset()
    assert "within its dates" in quote.check_dates(at=NOW, max_age_s=0)
    assert quote.check_policy(ClientPolicy(), at=NOW).startswith("milan")
    assert quote.check_report_data(b"\x22" * 64).startswith("the quote binds")


def test_another_report_data_is_refused():
    quote = verify(SnpMachine())
    assert refusal(quote.check_report_data, b"\x23" * 64) is Code.REPORT_DATA_MISMATCH


def test_the_dates_are_a_step_of_their_own():
    quote = verify(SnpMachine())
    code = refusal(quote.check_dates, at=NOT_AFTER + 1, max_age_s=0)
    assert code is Code.SNP_CERTIFICATE_EXPIRED


def test_the_clients_policy_for_snp_decides():
    quote = verify(SnpMachine(report={0x008: (0xB001F).to_bytes(8, "little")}))
    assert refusal(quote.check_policy, ClientPolicy(), at=NOW) is Code.SNP_DEBUG
    quote.check_policy(ClientPolicy(snp=SnpPolicy(debug=True)), at=NOW)


def test_evidence_that_snp_does_not_have_is_refused():
    assert refusal(verify, SnpMachine(), event_log=b"x") is Code.QUOTE_UNCHECKED_EVIDENCE
    assert PLATFORMS[NAME].collateral_names == {"amd-chain", "amd-crl"}


def test_a_bundle_without_chain_is_refused_and_one_without_list_is_for_the_policy():
    assert refusal(verify, SnpMachine(), parts={}) is Code.SNP_CHAIN_MALFORMED
    machine = SnpMachine()
    quote = verify(machine, parts={"amd-chain": machine.chain})
    assert refusal(quote.check_policy, ClientPolicy(), at=NOW) is Code.SNP_CRL_MISSING
