"""Azure's evidence: hardware, runtime data, key, quote; each link forged is refused for that."""

import json
import random
from dataclasses import replace

import pytest

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier.intel.quote import TdReport
from attestation.verifier.tpm import azure
from attestation.verifier.tpm.azure_evidence import MAX_ENCODED, AzureEvidence
from attestation.verifier.tpm.hcl import MAX_REPORT, Hardware, HclReport, RuntimeData
from tests.support.evidence import intel
from tests.support.evidence.authority import NOT_AFTER, NOT_BEFORE, rsa_key
from tests.support.evidence.tpm import (
    AZURE_KEY,
    EXTRA_DATA,
    NOW,
    RSASSA,
    AzureMachine,
    Event,
    Key,
    Machine,
    base64url,
    u,
    web_key,
)

AZURE = AzureMachine()
OTHER = Key(rsa_key("another"), scheme=RSASSA)


def verify(machine=AZURE, *, evidence=None, issuers=None, at=NOW, roots=None, **further):
    return azure.verify(
        machine.evidence() if evidence is None else evidence,
        chain=[machine.issuers] if issuers is None else issuers,
        roots=machine.roots if roots is None else roots,
        at=at,
        **further,
    )


def test_authentic_evidence_is_verified():
    claims = verify(event_log=AZURE.machine.log)
    found = json.loads(json.dumps(claims.to_json()))
    assert found["tee"] == "snp"
    assert found["extraData"] == EXTRA_DATA.hex()
    assert found["pcr_bank"] == "sha256 0-23"
    assert found["ak_kid"] == "HCLAkPub"
    assert found["ak_provenance"] == "hardware"
    assert found["vm_configuration"] == {"secure-boot": True, "console-enabled": False}
    assert found["user_data"] == "00" * 64
    assert found["hardware"]["vmpl"] == 0
    assert found["secure_boot"] is True
    assert claims.launched == claims.hardware.report.measurement


@pytest.mark.parametrize("digest", [1, 2, 3])
def test_every_digest_of_the_runtime_data_is_understood(digest):
    assert verify(AzureMachine(digest=digest)).tee == "snp"


def test_the_older_shape_says_the_same():
    older = verify(evidence=json.dumps(AZURE.older_members()).encode())
    assert older.tpm.registers == verify().tpm.registers


def test_base64_may_be_padded():
    report = base64url(AZURE.hcl_report)
    assert len(report) % 4
    assert verify(evidence=AZURE.evidence(hcl_report=report + "=" * (-len(report) % 4)))


def test_what_is_written_is_read_again():
    evidence = AzureEvidence.decode(AZURE.evidence())
    assert AzureEvidence.decode(evidence.encode()) == evidence
    assert verify(evidence=evidence.encode()).tee == "snp"


def test_the_vcek_may_be_among_its_issuers():
    chain = [AZURE.snp_machine.chain]
    assert verify(issuers=chain).to_json()["hardware"]["revocation"] == "unchecked"
    found = verify(issuers=chain, crl=AZURE.snp_machine.crl()).to_json()
    assert found["hardware"]["revocation"] == "checked"


def test_secure_boot_is_the_log_s_word_before_the_paravisor_s():
    off = Machine(AZURE_KEY, events=())
    assert verify(AzureMachine(off, runtime={"vm-configuration": {}})).tpm.secure_boot is None
    silent = verify(AzureMachine(off, runtime={"vm-configuration": {"secure-boot": False}}))
    assert silent.tpm.secure_boot is False
    said = AzureMachine(runtime={"vm-configuration": {"secure-boot": False}})
    assert verify(said, event_log=said.machine.log).tpm.secure_boot is True


@pytest.mark.parametrize(
    ("machine", "code"),
    [
        (AzureMachine(report_data=bytes(64)), Code.AZURE_RUNTIME_MISMATCH),
        (AzureMachine(report_data=AZURE.bound[:32] + b"\1" * 32), Code.AZURE_RUNTIME_MISMATCH),
        (AzureMachine(snp={"report": {0x030: u(2, 4, "little")}}), Code.AZURE_VMPL),
        (AzureMachine(Machine(OTHER)), Code.TPM_SIGNATURE_BAD),
        (AzureMachine(runtime={"keys": [web_key(OTHER)]}), Code.TPM_SIGNATURE_BAD),
        (AzureMachine(runtime={"keys": []}), Code.AZURE_MALFORMED),
        (AzureMachine(hcl={"magic": b"HCLB"}), Code.AZURE_MALFORMED),
    ],
)
def test_each_forgery_of_the_machine_has_its_code(machine, code, refusal):
    assert refusal(verify, machine) is code


def in_quote(**changes):
    return {"tpm_quote": AZURE.members()["tpm_quote"] | changes}


PCRS = AZURE.members()["tpm_quote"]["pcrs"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (in_quote(signature="00" * 256), Code.TPM_SIGNATURE_BAD),
        (
            in_quote(message=replace(AZURE.machine, indices=(1,)).message.hex()),
            Code.TPM_SIGNATURE_BAD,
        ),
        (in_quote(pcrs=PCRS[:-1]), Code.TPM_PCR_SELECTION_MISMATCH),
        (in_quote(pcrs=[*PCRS, PCRS[0]]), Code.TPM_PCR_SELECTION_MISMATCH),
        (in_quote(pcrs=[*PCRS[:-1], PCRS[0]]), Code.TPM_PCR_DIGEST_MISMATCH),
        ({"vcek": base64url(AZURE.snp_machine.ask.der)}, Code.SNP_CHAIN_MALFORMED),
        ({"vcek": base64url(b"no certificate")}, Code.AZURE_MALFORMED),
    ],
)
def test_each_forgery_of_the_evidence_has_its_code(changes, code, refusal):
    assert refusal(verify, evidence=AZURE.evidence(**changes)) is code


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"issuers": []}, Code.SNP_CHAIN_MALFORMED),
        ({"issuers": [b"no certificate"]}, Code.AZURE_MALFORMED),
        ({"roots": frozenset()}, Code.SNP_ROOT_UNKNOWN),
        ({"at": NOT_BEFORE - 1}, Code.SNP_CERTIFICATE_NOT_YET_VALID),
        ({"at": NOT_AFTER + 1}, Code.SNP_CERTIFICATE_EXPIRED),
        ({"crl": b"no list"}, Code.SNP_CRL_MALFORMED),
        ({"event_log": Machine(events=(Event(4, 0xD, b"x"),)).log}, Code.TPM_EVENT_LOG_MISMATCH),
    ],
)
def test_what_it_is_judged_with_has_its_codes(options, code, refusal):
    assert refusal(verify, **options) is code


# TDX


def td_machine(node=None, report_data=None):
    """A machine over TDX: its TDREPORT and the quote made of it."""
    empty = AzureMachine(hardware=bytes(1184))
    bound = empty.bound if report_data is None else report_data
    report = bytes(128) + bound + bytes(1184 - 192)
    machine = AzureMachine(hardware=report, hcl={"kind": u(4, 4, "little")})
    return machine, node or intel.IntelNode(report={"report_data": bound})


def td_members(machine, node):
    members = machine.members()
    del members["vcek"]
    return members | {"td_quote": base64url(node.quote())}


def verify_td(machine, node, members=None, at=intel.NOW, collateral=None):
    text = json.dumps(members or td_members(machine, node)).encode()
    collateral = node.collateral() if collateral is None else collateral
    roots = frozenset({node.root})
    return azure.verify(text, collateral=collateral, roots=roots, at=at)


def test_a_machine_over_tdx_is_verified():
    machine, node = td_machine()
    claims = verify_td(machine, node)
    assert claims.tee == "tdx"
    assert isinstance(claims.hardware.report, TdReport)
    assert len(claims.launched) == 32
    assert claims.to_json()["hardware"]["status"] == "UpToDate"
    evidence = AzureEvidence.decode(json.dumps(td_members(machine, node)).encode())
    assert AzureEvidence.decode(evidence.encode()) == evidence


def test_the_older_shape_of_tdx_says_the_same():
    machine, node = td_machine()
    older = machine.older_members()
    members = {
        "tpm_quote": older["quote"],
        "hcl_report": older["report"],
        "td_quote": list(node.quote()),
    }
    assert verify_td(machine, node, members).tee == "tdx"


def test_each_forgery_over_tdx_has_its_code(refusal):
    machine, node = td_machine()
    other = intel.IntelNode(report={"report_data": b"\x01" * 64})
    assert refusal(verify_td, machine, other) is Code.AZURE_HARDWARE_MISMATCH
    enclave = intel.IntelNode(version=3)
    assert refusal(verify_td, machine, enclave) is Code.AZURE_HARDWARE_MISMATCH
    unbound, same = td_machine(report_data=b"\x01" * 64)
    assert refusal(verify_td, unbound, same) is Code.AZURE_RUNTIME_MISMATCH
    assert refusal(verify_td, machine, node, collateral=b"") is Code.TDX_COLLATERAL_MISSING
    with_vcek = machine.members()
    assert refusal(verify_td, machine, node, with_vcek) is Code.AZURE_HARDWARE_MISMATCH


def test_the_dates_of_tdx_are_checked_again_for_another_time(refusal):
    claims = verify_td(*td_machine())
    claims.check_dates(at=intel.NOW)
    early, late = claims.hardware.valid_from - 1, claims.hardware.valid_until + 1
    assert refusal(claims.check_dates, at=early) is Code.TDX_COLLATERAL_NOT_YET_VALID
    assert refusal(claims.check_dates, at=late) is Code.TDX_COLLATERAL_EXPIRED


# The shapes


def without(name):
    return {key: value for key, value in AZURE.members().items() if key != name}


@pytest.mark.parametrize(
    "members",
    [
        [],
        {},
        *map(without, ("tpm_quote", "hcl_report", "vcek")),
        AZURE.members() | {"version": 3},
        AZURE.members() | {"version": "1"},
        AZURE.members() | {"more": 1},
        AZURE.members() | {"td_quote": "AA"},
        AZURE.members() | {"vcek": ""},
        AZURE.members() | {"vcek": []},
        AZURE.members() | {"vcek": "-----BEGIN \u00e4"},
        AZURE.members() | {"hcl_report": "AB=="},
        AZURE.members() | {"hcl_report": "A"},
        AZURE.members() | {"hcl_report": "\u00e4"},
        AZURE.members() | {"hcl_report": [256]},
        AZURE.members() | {"hcl_report": [True]},
        AZURE.members() | {"hcl_report": None},
        AZURE.members() | {"tpm_quote": {}},
        AZURE.members() | in_quote(more=1),
        AZURE.members() | in_quote(pcrs="00"),
        AZURE.members() | in_quote(message="0G"),
        AZURE.members() | in_quote(message="AA"),
    ],
)
def test_other_shapes_are_malformed(members, refusal):
    text = json.dumps(members).encode()
    with pytest.raises(MalformedEvidence):
        AzureEvidence.decode(text)
    assert refusal(verify, evidence=text) is Code.AZURE_MALFORMED


@pytest.mark.parametrize(
    "text",
    [
        AZURE.evidence().replace(b"{", b'{"vcek":"AA",', 1),
        b"[" * 10_000,
        b"{" + b" " * MAX_ENCODED,
        b"\xff",
    ],
)
def test_what_is_no_json_is_malformed(text):
    with pytest.raises(MalformedEvidence):
        AzureEvidence.decode(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"version": u(3, 4, "little")},
        {"size": u(2600, 4, "little")},
        {"request": u(1, 4, "little")},
        {"status": u(1, 4, "little")},
        {"reserved": b"\1" * 12},
        {"length": u(21, 4, "little")},
        {"kind": u(3, 4, "little")},
        {"digest": u(4, 4, "little")},
        {"text_length": u(1 << 30, 4, "little")},
        {"padding": b"\1"},
        {"padding": bytes(MAX_REPORT)},
        {"text": b"{}"},
    ],
)
def test_another_hcl_report_is_malformed(fields):
    with pytest.raises(MalformedEvidence):
        HclReport.parse(AzureMachine(hcl=fields).hcl_report)


def test_a_td_report_is_followed_by_zeros():
    fields = {"kind": u(4, 4, "little")}
    with pytest.raises(MalformedEvidence):
        HclReport.parse(AzureMachine(hardware=b"\1" * 1184, hcl=fields).hcl_report)
    report = HclReport.parse(AzureMachine(hardware=bytes(1184), hcl=fields).hcl_report)
    assert (report.kind, len(report.hardware)) == (Hardware.TDX, 1024)


def test_every_truncation_of_an_hcl_report_is_malformed():
    report = AzureMachine(hcl={"padding": b""}).hcl_report
    for length in range(0, len(report), 13):
        with pytest.raises(MalformedEvidence):
            HclReport.parse(report[:length])


@pytest.mark.parametrize(
    "runtime",
    [
        {"keys": {}},
        {"keys": [1]},
        {"keys": [web_key(), web_key()]},
        {"keys": [web_key(kty="EC")]},
        {"keys": [web_key(key_ops=["sign", "encrypt"])]},
        {"keys": [web_key(n="AQ==")]},
        {"keys": [web_key(n="AQ")]},
        {"keys": [web_key(e="AA")]},
        {"vm-configuration": []},
        {"user-data": 1},
        {"user-data": "0"},
    ],
)
def test_other_runtime_data_is_malformed(runtime):
    with pytest.raises(MalformedEvidence):
        RuntimeData.parse(AzureMachine(runtime=runtime).runtime_data)


def test_runtime_data_names_no_member_twice(refusal):
    twice = AZURE.runtime_data.replace(b"{", b'{"keys":[],', 1)
    with pytest.raises(MalformedEvidence, match="twice"):
        RuntimeData.parse(twice)
    assert refusal(verify, AzureMachine(text=twice)) is Code.AZURE_MALFORMED


def test_runtime_data_may_say_little():
    keys = {"keys": [web_key()]}
    parsed = RuntimeData.parse(json.dumps(keys).encode())
    assert (parsed.configuration, parsed.user_data, parsed.secure_boot) == ({}, b"", None)


def flips(count):
    """Flip a bit in the message, a register, the hardware's signed part, or the runtime data."""
    source = random.Random(5)
    honest = AzureEvidence.decode(AZURE.evidence())
    runtime = 32 + 1184 + 20
    ranges = [range(32, 32 + 672), range(runtime, runtime + len(AZURE.runtime_data))]
    for _ in range(count):
        parts = [honest.message, honest.registers[7], honest.hcl_report]
        which = source.randrange(4)
        changed = bytearray(parts[min(which, 2)])
        at = source.choice(ranges[which - 2]) if which > 1 else source.randrange(len(changed))
        changed[at] ^= 1 << source.randrange(8)
        parts[min(which, 2)] = bytes(changed)
        registers = (*honest.registers[:7], parts[1], *honest.registers[8:])
        forged = replace(honest, message=parts[0], registers=registers, hcl_report=parts[2])
        with pytest.raises(Refused):
            verify(evidence=forged.encode())


def test_no_flipped_bit_is_accepted():
    flips(150)


@pytest.mark.soak
def test_no_flipped_bit_of_ten_thousand_is_accepted():
    flips(10_000)
