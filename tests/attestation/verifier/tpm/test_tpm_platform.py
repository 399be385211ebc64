"""A TPM's quote as a node's: what it binds, what it measures, what it is worth, how old."""

import hashlib
import json
from types import SimpleNamespace

import pytest

from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import Code
from attestation.verifier.amd.policy import SnpPolicy
from attestation.verifier.intel.policy import TdxPolicy
from attestation.verifier.tpm import platform
from attestation.verifier.tpm.policy import MEASURED, TpmPolicy
from attestation.verifier.weakness import Weakness
from tests.support.evidence import intel
from tests.support.evidence.authority import NOT_AFTER, NOT_BEFORE
from tests.support.evidence.tpm import (
    AZURE_KEY,
    NOW,
    ROOT,
    ROOTS,
    AzureMachine,
    GoogleMachine,
    Key,
    Machine,
    certification,
    chain_of,
    message,
    rsa_attestation_key,
    u,
)

REPORT_DATA = bytes(range(64))
BINDING = {"extra_data": hashlib.sha256(REPORT_DATA).digest()}
MACHINE = Machine(quote_options=BINDING)
GOOGLE = GoogleMachine(Machine(rsa_attestation_key()), quote_options={4: BINDING, 11: BINDING})
AZURE = AzureMachine(Machine(AZURE_KEY, quote_options=BINDING))
POLICY = SimpleNamespace(tpm=TpmPolicy(), snp=SnpPolicy(crl=False), tdx=TdxPolicy())


def bundle(quote, event_log=b""):
    return Bundle(b"key document", "a platform", quote, b"engine policy", event_log=event_log)


def verify_tpm(machine=MACHINE, event_log=None, **parts):
    parts = parts or {"tpm-chain": chain_of(machine.key)}
    collateral = Collateral({name.replace("_", "-"): part for name, part in parts.items()})
    log = machine.log if event_log is None else event_log
    given = bundle(machine.evidence(), log)
    return platform.Tpm().verify(given, collateral, roots=ROOTS, at=NOW)


def verify_google(machine=GOOGLE, event_log=b"", chain=ROOT.pem):
    collateral = Collateral({"tpm-chain": chain} if chain else {})
    given = bundle(machine.evidence, event_log)
    return platform.GceVtpm().verify(given, collateral, roots=ROOTS, at=NOW)


def verify_azure(machine=AZURE, **parts):
    chain = {"amd-chain": machine.snp_machine.chain}
    given = bundle(machine.evidence(), machine.machine.log)
    collateral = Collateral(chain | {name.replace("_", "-"): part for name, part in parts.items()})
    return platform.AzureVtpm().verify(given, collateral, roots=machine.roots, at=NOW)


def measured(name, hardware, values):
    """The measurement, written down here once more."""
    digest = hashlib.sha256(b"sottovoce tpm measurement v1")
    digest.update(u(len(name), 1) + name + u(len(hardware), 1) + hardware)
    for index in (0, 2, 4, 7, 8, 9, 11, 12, 13, 14):
        digest.update(u(index, 1) + values[index])
    return digest.digest()


@pytest.mark.parametrize(
    ("verify", "machine", "name"),
    [(verify_tpm, MACHINE, b"tpm"), (verify_google, GOOGLE.machine, b"gce-vtpm")],
)
def test_a_boot_only_quote_says_that_it_is(verify, machine, name):
    quote = verify()
    assert quote.measurement == measured(name, b"", machine.registers["sha256"])
    assert quote.weaknesses == {Weakness.BOOT_ONLY}
    assert "boot-only: host can read memory" in quote.worth
    assert "binds" in quote.check_report_data(REPORT_DATA)
    assert "certificate" in quote.check_policy(POLICY, at=NOW)
    assert "within its dates" in quote.check_dates(at=NOW, max_age_s=0)


def test_azure_s_quote_has_its_hardware_s_measurement_in_its_own():
    quote = verify_azure()
    values = AZURE.machine.registers["sha256"]
    assert quote.measurement == measured(b"azure-vtpm", b"\x4d" * 48, values)
    assert quote.weaknesses == frozenset()
    assert "snp" in quote.worth
    assert "binds" in quote.check_report_data(REPORT_DATA)
    assert "genoa" in quote.check_policy(POLICY, at=NOW)
    assert "within its dates" in quote.check_dates(at=NOW, max_age_s=0)


def azure_over_tdx(**further):
    empty = AzureMachine(AZURE.machine, hardware=bytes(1184))
    report = bytes(128) + empty.bound + bytes(1184 - 192)
    machine = AzureMachine(AZURE.machine, hardware=report, hcl={"kind": u(4, 4, "little")})
    node = intel.IntelNode(report={"report_data": machine.bound})
    members = machine.older_members()
    text = {"tpm_quote": members["quote"], "hcl_report": members["report"]}
    text["td_quote"] = list(node.quote())
    collateral = Collateral({"intel-dcap": node.collateral(), **further})
    given = bundle(json.dumps(text).encode(), machine.machine.log)
    roots = frozenset({node.root})
    return platform.AzureVtpm().verify(given, collateral, roots=roots, at=intel.NOW)


def test_azure_s_quote_over_tdx_has_the_trust_domain_s_measurement(refusal):
    quote = azure_over_tdx()
    values = AZURE.machine.registers["sha256"]
    assert quote.measurement == measured(b"azure-vtpm", quote.claims.launched, values)
    assert "tdx" in quote.worth
    tolerant = SimpleNamespace(tpm=TpmPolicy(), tdx=TdxPolicy())
    assert quote.check_policy(tolerant, at=intel.NOW)
    late = quote.claims.hardware.valid_until + 1
    code = refusal(quote.check_dates, at=late, max_age_s=0)
    assert code is Code.TDX_COLLATERAL_EXPIRED


def test_collateral_of_other_hardware_is_refused(refusal):
    assert refusal(azure_over_tdx, **{"amd-crl": b"x"}) is Code.QUOTE_UNCHECKED_EVIDENCE
    assert refusal(verify_azure, intel_dcap=b"x") is Code.QUOTE_UNCHECKED_EVIDENCE


@pytest.mark.parametrize("verify", [verify_tpm, verify_google, verify_azure])
def test_a_quote_that_binds_other_keys_is_refused(verify, refusal):
    code = refusal(verify().check_report_data, bytes(64))
    assert code is Code.REPORT_DATA_MISMATCH


@pytest.mark.parametrize("verify", [verify_tpm, verify_google])
def test_the_dates_of_the_chain_are_checked(verify, refusal):
    quote = verify()
    early = refusal(quote.check_dates, at=NOT_BEFORE - 1, max_age_s=0)
    late = refusal(quote.check_dates, at=NOT_AFTER + 1, max_age_s=0)
    assert early is Code.TPM_CERTIFICATE_NOT_YET_VALID
    assert late is Code.TPM_CERTIFICATE_EXPIRED


def test_the_dates_of_amd_s_chain_are_checked(refusal):
    code = refusal(verify_azure().check_dates, at=NOT_AFTER + 1, max_age_s=0)
    assert code is Code.SNP_CERTIFICATE_EXPIRED


def test_an_unproven_key_is_refused_by_policy(refusal):
    quote = verify_google(chain=b"")
    assert refusal(quote.check_policy, POLICY, at=NOW) is Code.TPM_AK_UNPROVEN


def test_azure_s_hardware_and_its_tpm_are_both_under_the_policy(refusal):
    quote = verify_azure()
    strict = SimpleNamespace(tpm=TpmPolicy(), snp=SnpPolicy())
    assert refusal(quote.check_policy, strict, at=NOW) is Code.SNP_CRL_MISSING
    short = SimpleNamespace(tpm=TpmPolicy(max_clock_s=1), snp=SnpPolicy(crl=False))
    assert refusal(quote.check_policy, short, at=NOW) is Code.TPM_CLOCK


def test_a_certified_key_is_proven_by_another_s_chain():
    device = Key(MACHINE.key.private, digest=11)
    quote = verify_tpm(
        tpm_chain=chain_of(device), tpm_certification=certification(device, MACHINE.key)
    )
    assert "certification" in quote.worth


def test_what_is_left_unchecked_is_refused(refusal):
    code = refusal(verify_google, event_log=GOOGLE.machine.log)
    assert code is Code.QUOTE_UNCHECKED_EVIDENCE
    further = GoogleMachine(further=message(8, b"a report"))
    assert refusal(verify_google, further) is Code.QUOTE_UNCHECKED_EVIDENCE


def test_without_the_registers_there_is_no_measurement(refusal):
    few = Machine(indices=(0, 7), quote_options=BINDING)
    quote = verify_tpm(few)
    with_all = verify_tpm()
    assert len(with_all.measurement) == 32
    assert refusal(lambda: quote.measurement) is Code.TPM_REGISTERS_MISSING


def test_every_measured_register_is_in_the_measurement():
    values = MACHINE.registers["sha256"]
    seen = {platform.measure("tpm", b"", {"sha256": values})}
    for index in MEASURED:
        changed = {"sha256": values | {index: b"\x99" * 32}}
        seen.add(platform.measure("tpm", b"", changed))
    seen.add(platform.measure("gce-vtpm", b"", {"sha256": values}))
    seen.add(platform.measure("tpm", b"\0", {"sha256": values}))
    assert len(seen) == len(MEASURED) + 3


def test_each_platform_names_its_collateral():
    assert platform.Tpm().collateral_names == {"tpm-chain", "tpm-certification"}
    assert platform.GceVtpm().collateral_names == {"tpm-chain"}
    assert platform.AzureVtpm().collateral_names == {"amd-chain", "amd-crl", "intel-dcap"}


def test_azure_without_a_chain_is_refused(refusal):
    given = bundle(AZURE.evidence())
    code = refusal(platform.AzureVtpm().verify, given, Collateral(), roots=AZURE.roots, at=NOW)
    assert code is Code.SNP_CHAIN_MALFORMED
