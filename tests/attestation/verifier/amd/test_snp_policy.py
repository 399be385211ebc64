"""Each rule of `SnpPolicy` meets an authentic report that breaks it, and it alone."""

from dataclasses import fields, replace

import pytest

from attestation.errors import Code, Refused
from attestation.verifier.amd import snp
from attestation.verifier.amd.policy import MINIMUM_TCB, SnpPolicy
from tests.support.evidence.amd import TCB, SnpMachine
from tests.support.evidence.authority import NOT_BEFORE

NOW = NOT_BEFORE + 86400
OTHER = "ab" * 48


def claims(machine, *, crl=True):
    revocation = machine.crl() if crl else b""
    return snp.verify(machine.quote(), [machine.chain], revocation, roots=machine.roots, at=NOW)


def check(machine, *, crl=True, at=NOW, **policy):
    return SnpPolicy(**policy).check(claims(machine, crl=crl), at=at)


def refusal(machine, **options):
    with pytest.raises(Refused) as caught:
        check(machine, **options)
    return caught.value.code


def policy_bits(bits, abi=0x1F):
    return {0x008: (0x30000 | bits | abi).to_bytes(8, "little")}


@pytest.mark.parametrize(("line", "version"), [("Milan", 2), ("Genoa", 3), ("Turin", 5)])
def test_the_default_accepts_a_current_machine(line, version):
    assert check(SnpMachine(line, version)).startswith(f"{line.lower()} with")


def older(line, at):
    return TCB[line][:at] + bytes([TCB[line][at] - 1]) + TCB[line][at + 1 :]


SMT_OFF = {0x008: (0x2001F).to_bytes(8, "little"), 0x040: b"\x24"}
PROVISIONAL = {0x1E8: bytes([41, 55, 1, 0, 40, 55, 1, 0])}

RULES = [
    # code, the report that breaks it, the policy under which it is refused, the one that accepts
    (Code.SNP_PRODUCT_REFUSED, {}, {"products": frozenset({"genoa"})}, {}),
    (Code.SNP_REPORT_VERSION_TOO_OLD, {}, {"min_report_version": 4}, {"min_report_version": 3}),
    (Code.SNP_DEBUG, policy_bits(1 << 19), {}, {"debug": True}),
    (Code.SNP_MIGRATION_AGENT, policy_bits(1 << 18), {}, {"migration_agent": True}),
    (Code.SNP_MIGRATION_AGENT, {0x160: bytes(32)}, {}, {"migration_agent": True}),
    (Code.SNP_SMT, {}, {"smt": False}, {}),
    (Code.SNP_SMT, {0x040: b"\x24"}, {"smt": False}, {}),
    (Code.SNP_SMT, {0x008: (0x2001F).to_bytes(8, "little")}, {"smt": False}, {}),
    (Code.SNP_SEVERAL_SOCKETS, {}, {"several_sockets": False}, {}),
    (Code.SNP_CXL, policy_bits(1 << 21), {}, {"cxl": True}),
    (Code.SNP_ABI_TOO_OLD, {}, {"min_abi_minor": 32}, {"min_abi_minor": 31}),
    (Code.SNP_ABI_TOO_OLD, {}, {"min_abi_major": 1}, {}),
    (Code.SNP_VMPL, {0x030: b"\x01"}, {}, {"max_vmpl": 1}),
    (Code.SNP_VMPL, {0x030: b"\xff" * 4}, {"max_vmpl": 3}, {"max_vmpl": 0xFFFFFFFF}),
    (Code.SNP_GUEST_SVN_TOO_OLD, {}, {"min_guest_svn": 1}, {}),
    (
        Code.SNP_REPORTED_TCB_TOO_OLD,
        {},
        {"min_reported_tcb": {"milan.boot_loader": 5}},
        {"min_reported_tcb": {"milan.boot_loader": 4, "genoa.snp": 255}},
    ),
    (Code.SNP_COMMITTED_TCB_TOO_OLD, {0x1E0: older("Milan", 6)}, {}, {"min_committed_tcb": {}}),
    (Code.SNP_CURRENT_TCB_TOO_OLD, {0x038: older("Milan", 6)}, {}, {"min_current_tcb": {}}),
    (Code.SNP_LAUNCH_TCB_TOO_OLD, {0x1F0: older("Milan", 6)}, {}, {"min_launch_tcb": {}}),
    (Code.SNP_PROVISIONAL_FIRMWARE, PROVISIONAL, {}, {"provisional_firmware": True}),
    (Code.SNP_CHIP_ID_MASKED, {0x1A0: bytes(64)}, {}, {"masked_chip_id": True}),
    (Code.SNP_TSME_OFF, {}, {"tsme": True}, {}),
    (Code.SNP_ECC_OFF, {0x040: b"\x21"}, {"ecc": True}, {}),
    (Code.SNP_RAPL_ON, {}, {"rapl_disabled": True}, {}),
    (Code.SNP_CIPHERTEXT_HIDING_OFF, {}, {"ciphertext_hiding": True}, {}),
    (Code.SNP_ALIAS_CHECK_MISSING, {0x040: b"\x05"}, {"alias_check": True}, {}),
    (Code.SNP_ID_KEY_REFUSED, {}, {"id_keys": {OTHER}}, {"id_keys": {"00" * 48}}),
    (
        Code.SNP_AUTHOR_KEY_REFUSED,
        {0x110: bytes.fromhex(OTHER)},  # but no bit says that there is one
        {"author_keys": frozenset({OTHER})},
        {},
    ),
]


@pytest.mark.parametrize(("code", "report", "refusing", "accepting"), RULES)
def test_each_rule_refuses_what_breaks_it_and_nothing_else(code, report, refusing, accepting):
    machine = SnpMachine(report=report)
    assert refusal(machine, **refusing) is code
    check(machine, **accepting)


@pytest.mark.parametrize(
    ("report", "policy"),
    [
        (SMT_OFF, {"smt": False}),
        (policy_bits(1 << 20), {"several_sockets": False}),
        (policy_bits(0, 0x133), {"min_abi_major": 1, "min_abi_minor": 0x33}),
        ({0x004: b"\x07"}, {"min_guest_svn": 7}),
        (
            {0x040: b"\x3e"},
            dict.fromkeys(
                ("tsme", "ecc", "rapl_disabled", "ciphertext_hiding", "alias_check"), True
            ),
        ),
        ({0x0E0: bytes.fromhex(OTHER)}, {"id_keys": frozenset({OTHER})}),
        ({0x048: b"\x01", 0x110: bytes.fromhex(OTHER)}, {"author_keys": frozenset({OTHER})}),
    ],
)
def test_what_is_demanded_and_there_is_accepted(report, policy):
    check(SnpMachine(report=report), **policy)


@pytest.mark.parametrize("name", ["reported", "committed", "current", "launch"])
@pytest.mark.parametrize(("line", "component"), [("Milan", "tee"), ("Turin", "fmc")])
def test_a_minimum_holds_for_each_tcb_and_component_by_itself(name, line, component):
    minimum = {f"{line.lower()}.{component}": 9}
    code = Code(f"snp-{name}-tcb-too-old")
    assert refusal(SnpMachine(line), **{f"min_{name}_tcb": minimum}) is code


def test_a_providers_key_is_accepted_only_by_a_policy_that_says_so():
    machine = SnpMachine(vlek=True)
    assert refusal(machine) is Code.SNP_VLEK
    check(machine, vlek=True)
    check(machine, vlek=True, providers=frozenset({"Tests"}))
    assert refusal(machine, vlek=True, providers=frozenset({"Others"})) is Code.SNP_CSP_REFUSED


def test_the_revocation_list_is_demanded_and_ages():
    assert refusal(SnpMachine(), crl=False) is Code.SNP_CRL_MISSING
    assert check_without_crl()
    assert refusal(SnpMachine(), max_crl_age_s=86399) is Code.SNP_CRL_TOO_OLD
    check(SnpMachine(), max_crl_age_s=86400)


def check_without_crl():
    return SnpPolicy(crl=False).check(claims(SnpMachine(), crl=False), at=NOW)


@pytest.mark.parametrize(
    "options",
    [
        {"products": frozenset({"naples"})},
        {"min_reported_tcb": {"milan.fmc": 1}},
        {"min_launch_tcb": {"snp": 1}},
        {"min_current_tcb": {"milan.snp": 256}},
        {"min_committed_tcb": {"milan.snp": -1}},
        {"id_keys": frozenset({"ab" * 32})},
        {"author_keys": frozenset({"AB" * 48})},
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(options):
    with pytest.raises(ValueError):  # noqa: PT011 - its text is for a person
        SnpPolicy(**options)


def test_every_field_is_of_a_kind_that_a_file_can_state():
    policy = SnpPolicy()
    for field in fields(policy):
        value = getattr(policy, field.name)
        assert isinstance(value, (bool, int, str, frozenset)) or value is MINIMUM_TCB


def test_every_field_is_explained():
    plain = SnpPolicy().explain()
    changes = {
        "products": frozenset({"turin"}),
        "providers": frozenset({"Some"}),
        "id_keys": frozenset({OTHER}),
        "author_keys": frozenset({OTHER}),
    }
    for field in fields(SnpPolicy):
        value = getattr(SnpPolicy(), field.name)
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, int):
            other = value + 1
        else:
            other = changes.get(field.name, {"milan.tee": 3})
        assert replace(SnpPolicy(), **{field.name: other}).explain() != plain, field.name
    assert "The host may debug the guest: refused." in plain
    assert "The reported TCB is at least genoa.snp 28, milan.snp 29, turin.snp 4." in plain
