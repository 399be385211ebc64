import hashlib
import json
import random
from dataclasses import replace

import pytest

from attestation.errors import Code, Refused
from attestation.verifier.intel import dcap
from attestation.verifier.intel.collateral import DcapCollateral, parse_pck_chain
from attestation.verifier.intel.quote import DcapQuote
from attestation.verifier.intel.verify import verify
from tests.support.evidence.intel import DAY, NOW, IntelNode, isv_level, level, point

YEAR = 365 * DAY
PAST, FUTURE = (NOW - YEAR, NOW - 1), (NOW + 1, NOW + YEAR)


def attributes(value):
    return {"td_attributes": value.to_bytes(8, "little")}


SEPT_VE_DISABLE = 1 << 28
BINDING = hashlib.sha256(point("attestation") + bytes(range(32))).digest()

FORGERIES = {
    "trailing bytes": ({"padding": b"\0\0x"}, Code.TDX_QUOTE_TRAILING_BYTES),
    "no PCK chain": (
        {"certification_type": 3, "pck_chain": ()},
        Code.TDX_PCK_CHAIN_MISSING,
    ),
    "a PCK chain without its root": (
        {"pck_chain": ("pck", "pck_ca")},
        Code.TDX_COLLATERAL_MALFORMED,
    ),
    "a root that did not sign itself": ({"forged": {"root"}}, Code.TDX_PCK_CHAIN_BAD),
    "a PCK CA of a stranger": ({"forged": {"pck_ca"}}, Code.TDX_PCK_CHAIN_BAD),
    "a PCK of a stranger": ({"forged": {"pck"}}, Code.TDX_PCK_CHAIN_BAD),
    "a TCB signer of a stranger": ({"forged": {"tcb_signer"}}, Code.TDX_TCB_SIGNER_BAD),
    "an expired PCK": ({"dates": {"pck": PAST}}, Code.TDX_CERTIFICATE_EXPIRED),
    "an expired TCB signer": ({"dates": {"tcb_signer": PAST}}, Code.TDX_CERTIFICATE_EXPIRED),
    "a PCK CA to come": ({"dates": {"pck_ca": FUTURE}}, Code.TDX_CERTIFICATE_NOT_YET_VALID),
    "TCB info of a stranger": ({"forged": {"tcb_info"}}, Code.TDX_TCB_INFO_SIGNATURE_BAD),
    "QE identity of a stranger": (
        {"forged": {"qe_identity"}},
        Code.TDX_QE_IDENTITY_SIGNATURE_BAD,
    ),
    "expired TCB info": ({"dates": {"tcb_info": PAST}}, Code.TDX_COLLATERAL_EXPIRED),
    "TCB info to come": ({"dates": {"tcb_info": FUTURE}}, Code.TDX_COLLATERAL_NOT_YET_VALID),
    "expired QE identity": ({"dates": {"qe_identity": PAST}}, Code.TDX_COLLATERAL_EXPIRED),
    "QE identity to come": (
        {"dates": {"qe_identity": FUTURE}},
        Code.TDX_COLLATERAL_NOT_YET_VALID,
    ),
    "a root list of a stranger": ({"forged": {"root_crl"}}, Code.TDX_CRL_SIGNATURE_BAD),
    "a PCK list of a stranger": ({"forged": {"pck_crl"}}, Code.TDX_CRL_SIGNATURE_BAD),
    "an expired root list": ({"dates": {"root_crl": PAST}}, Code.TDX_CRL_EXPIRED),
    "a PCK list to come": ({"dates": {"pck_crl": FUTURE}}, Code.TDX_CRL_NOT_YET_VALID),
    "a revoked PCK": ({"revoked": {"pck"}}, Code.TDX_PCK_REVOKED),
    "a revoked PCK CA": ({"revoked": {"pck_ca"}}, Code.TDX_CA_REVOKED),
    "a revoked TCB signer": ({"revoked": {"tcb_signer"}}, Code.TDX_CA_REVOKED),
    "a revoked root": ({"revoked": {"root"}}, Code.TDX_CA_REVOKED),
    "a quoting enclave of a stranger": (
        {"forged": {"qe_report"}},
        Code.TDX_QE_REPORT_SIGNATURE_BAD,
    ),
    "a PCK on another curve": (
        {"public_keys": {"pck": "P-384"}},
        Code.TDX_QE_REPORT_SIGNATURE_BAD,
    ),
    "an attestation key of a stranger": (
        {"qe_report": {"report_data": b"\1" * 32}},
        Code.TDX_ATTESTATION_KEY_UNBOUND,
    ),
    "a binding with something behind it": (
        {"qe_report": {"report_data": BINDING + b"\1"}},
        Code.TDX_ATTESTATION_KEY_UNBOUND,
    ),
    "an attestation key off the curve": (
        {"attestation_key": b"\1" * 64},
        Code.TDX_QUOTE_SIGNATURE_BAD,
    ),
    "a quote of a stranger": ({"forged": {"quote"}}, Code.TDX_QUOTE_SIGNATURE_BAD),
    "debug mode": ({"report": attributes(SEPT_VE_DISABLE | 1)}, Code.TDX_DEBUG),
    "an enclave in debug mode": (
        {"version": 3, "report": {"attributes": b"\7" + bytes(15)}},
        Code.TDX_DEBUG,
    ),
    "profiling": ({"report": attributes(SEPT_VE_DISABLE | 1 << 5)}, Code.TDX_PROFILED),
    "a reserved attribute": (
        {"report": attributes(SEPT_VE_DISABLE | 1 << 40)},
        Code.TDX_ATTRIBUTES_RESERVED,
    ),
    "migration": ({"report": attributes(SEPT_VE_DISABLE | 1 << 29)}, Code.TDX_MIGRATABLE),
    "room for service TDs": (
        {"report": attributes(SEPT_VE_DISABLE | 1 << 17)},
        Code.TDX_SERVICE_TD,
    ),
    "a service TD": ({"version": 5, "report": {"mr_service_td": b"\1"}}, Code.TDX_SERVICE_TD),
    "a service TD that came later": (
        {"version": 5, "body": 4, "report": {"cur_service_td_hash": b"\1"}},
        Code.TDX_SERVICE_TD,
    ),
    "exceptions by the host": ({"report": attributes(0)}, Code.TDX_SEPT_VE),
    "TCB info of SGX": ({"tcb_info": {"id": "SGX"}}, Code.TDX_COLLATERAL_OF_ANOTHER_TEE),
    "TCB info of TDX for an enclave": (
        {"version": 3, "tcb_info": {"id": "TDX"}},
        Code.TDX_COLLATERAL_OF_ANOTHER_TEE,
    ),
    "QE identity of SGX": ({"qe_identity": {"id": "QE"}}, Code.TDX_COLLATERAL_OF_ANOTHER_TEE),
    "another signer's quoting enclave": (
        {"qe_report": {"mr_signer": b"\1" * 32}},
        Code.TDX_QE_MISMATCH,
    ),
    "another product": ({"qe_report": {"isv_prod_id": b"\3"}}, Code.TDX_QE_MISMATCH),
    "another misc select": ({"qe_report": {"misc_select": b"\1"}}, Code.TDX_QE_MISMATCH),
    "other attributes": ({"qe_report": {"attributes": b"\x05"}}, Code.TDX_QE_MISMATCH),
    "a quoting enclave in debug mode": (
        {"qe_report": {"attributes": b"\x17"}},
        Code.TDX_QE_MISMATCH,
    ),
    "a quoting enclave below every level": (
        {"qe_report": {"isv_svn": b"\1"}},
        Code.TDX_QE_MISMATCH,
    ),
    "another kind of platform": ({"pck": {"fmspc": bytes(6)}}, Code.TDX_FMSPC_MISMATCH),
    "a CPU below every level": ({"pck": {"cpu_svn": bytes(16)}}, Code.TDX_TCB_UNKNOWN),
    "a PCE below every level": ({"pck": {"pce_svn": 1}}, Code.TDX_TCB_UNKNOWN),
    "a current module below every level": (
        {"version": 5, "report": {"tee_tcb_svn2": bytes([5, 1])}},
        Code.TDX_TCB_UNKNOWN,
    ),
    "a revoked platform": (
        {"tcb_info": {"tcbLevels": [level("Revoked")]}},
        Code.TDX_TCB_REVOKED,
    ),
    "a revoked quoting enclave": (
        {"qe_identity": {"tcbLevels": [isv_level(4, "Revoked")]}},
        Code.TDX_TCB_REVOKED,
    ),
    "a module of an unknown signer": (
        {"report": {"mr_signer_seam": b"\1"}},
        Code.TDX_MODULE_MISMATCH,
    ),
    "a module with other attributes": (
        {"report": {"seam_attributes": b"\1"}},
        Code.TDX_MODULE_MISMATCH,
    ),
    "a module of an unknown version": (
        {"report": {"tee_tcb_svn": bytes([5, 9, 2])}},
        Code.TDX_MODULE_MISMATCH,
    ),
    "a module below every level": (
        {"report": {"tee_tcb_svn": bytes([1, 1, 2])}},
        Code.TDX_MODULE_MISMATCH,
    ),
    "TCB info without levels": ({"tcb_info": {"tcbLevels": None}}, Code.TDX_DCAP_REFUSED),
}


def frozen(changes):
    return {k: frozenset(v) if isinstance(v, set) else v for k, v in changes.items()}


def test_an_honest_quote_is_verified(honest):
    claims = honest.verify()
    assert (claims.status, claims.advisory_ids) == ("UpToDate", ())
    assert claims.fmspc == "70707E570000"
    assert claims.tcb_evaluation_number == 18
    assert claims.collateral_issued_at == claims.valid_from == NOW - DAY
    assert claims.valid_until == NOW + 29 * DAY


@pytest.mark.parametrize(("changes", "code"), FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forgery_is_refused(refused, changes, code):
    assert refused(IntelNode(**frozen(changes)).verify) is code


OURS_ALONE = {
    "trailing bytes",
    "no PCK chain",
    "a PCK chain without its root",
    "a root that did not sign itself",
    "a PCK list to come",
    "a binding with something behind it",
    "a service TD that came later",
}
"""What dcap-qvl by itself would take: it is given the root, does not look behind the end, nor at
when a list was issued."""


@pytest.mark.parametrize("name", sorted(FORGERIES.keys() - OURS_ALONE))
def test_dcap_qvl_by_itself_refuses_it_too(refused, name):
    node = IntelNode(**frozen(FORGERIES[name][0]))
    quote, collateral = DcapQuote.parse(node.quote()), DcapCollateral.parse(node.collateral())
    chain = parse_pck_chain(quote.certification_data)
    assert refused(dcap.judge, quote, collateral, chain, at=NOW)


def test_a_root_that_is_not_pinned_is_refused(refused):
    assert refused(IntelNode().verify, roots=frozenset({bytes(32)})) is Code.TDX_ROOT_UNKNOWN
    assert refused(IntelNode().verify, roots=frozenset()) is Code.TDX_ROOT_UNKNOWN


def test_all_chains_lead_to_one_root(refused):
    other = IntelNode(dates={"root": (NOW - YEAR, NOW + YEAR)})
    chain = other.chain("tcb_signer", "root")
    for statement in ("tcb_info", "qe_identity"):
        node = IntelNode(collateral_changes={f"{statement}_issuer_chain": chain})
        code = refused(node.verify, roots=frozenset({node.root, other.root}))
        assert code is Code.TDX_ROOT_UNKNOWN


def test_each_statement_has_a_signer_of_its_own(refused):
    chain = IntelNode(forged=frozenset({"tcb_signer"})).chain("tcb_signer", "root")
    node = IntelNode(collateral_changes={"qe_identity_issuer_chain": chain})
    assert refused(node.verify) is Code.TDX_QE_SIGNER_BAD


def test_the_list_may_come_with_another_chain_of_the_same_root(refused):
    signed = IntelNode().chain("tcb_signer", "root")
    assert IntelNode(collateral_changes={"pck_crl_issuer_chain": signed}).verify()
    forged = IntelNode(forged=frozenset({"pck_ca"})).chain("pck_ca", "root")
    node = IntelNode(collateral_changes={"pck_crl_issuer_chain": forged})
    assert refused(node.verify) is Code.TDX_CRL_SIGNER_BAD


def test_the_collateral_may_bring_the_pck_chain_that_the_quote_lacks():
    chain = IntelNode().chain("pck", "pck_ca", "root")
    bring = {"pck_certificate_chain": chain}
    node = IntelNode(certification_type=3, pck_chain=(), collateral_changes=bring)
    assert node.verify() == IntelNode().verify()
    assert IntelNode(collateral_changes=bring).verify() == IntelNode().verify()


def test_a_quote_with_two_pck_chains_is_refused(refused):
    chain = IntelNode(pck={"pce_svn": 14}).chain("pck", "pck_ca", "root")
    node = IntelNode(collateral_changes={"pck_certificate_chain": chain})
    assert refused(node.verify) is Code.TDX_PCK_CHAIN_MISMATCH


def test_padding_of_zeros_changes_nothing():
    assert replace(IntelNode(), padding=bytes(3000)).verify() == IntelNode().verify()


def test_nothing_is_judged_without_collateral(refused):
    quote = IntelNode().quote()
    roots = frozenset({IntelNode().root})
    code = refused(verify, quote, b"", roots=roots, at=NOW)
    assert code is Code.TDX_COLLATERAL_MISSING
    code = refused(verify, quote, b"{}", roots=roots, at=NOW)
    assert code is Code.TDX_COLLATERAL_MALFORMED
    code = refused(verify, b"", IntelNode().collateral(), roots=roots, at=NOW)
    assert code is Code.TDX_QUOTE_MALFORMED


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (-(2**70), Code.TDX_CERTIFICATE_NOT_YET_VALID),
        (0, Code.TDX_CERTIFICATE_NOT_YET_VALID),
        (NOW - DAY - 1, Code.TDX_COLLATERAL_NOT_YET_VALID),
        (NOW + 29 * DAY + 1, Code.TDX_COLLATERAL_EXPIRED),
        (2**70, Code.TDX_CERTIFICATE_EXPIRED),
    ],
)
def test_a_clock_that_is_wrong_refuses(refused, at, code):
    assert refused(IntelNode().verify, at=at) is code


def test_dates_hold_to_the_second(refused):
    assert IntelNode().verify(at=NOW - DAY)
    assert IntelNode().verify(at=NOW + 29 * DAY - 1)
    assert refused(IntelNode().verify, at=NOW + 29 * DAY) is Code.TDX_CRL_EXPIRED


def test_what_the_collateral_says_of_the_platform_is_claimed():
    levels = [level("OutOfDate") | {"advisoryIDs": ["INTEL-SA-00001"]}]
    claims = IntelNode(tcb_info={"tcbLevels": levels}).verify()
    assert (claims.status, claims.advisory_ids) == ("OutOfDate", ("INTEL-SA-00001",))
    old_enclave = IntelNode(qe_report={"isv_svn": b"\3"}).verify()
    assert old_enclave.status == "OutOfDate"
    old_module = IntelNode(report={"tee_tcb_svn": bytes([3, 1, 2])}).verify()
    assert old_module.status == "OutOfDate"
    assert IntelNode(tcb_info={"tcbEvaluationDataNumber": 5}).verify().tcb_evaluation_number == 5
    assert IntelNode(qe_identity={"tcbEvaluationDataNumber": 4}).verify().tcb_evaluation_number == 4


def test_a_module_that_was_replaced_under_a_running_td_is_told():
    advised = {"advisoryIDs": ["INTEL-SA-00002"]}
    old = level("OutOfDate", tdxtcbcomponents=[{"svn": 0}] * 16)
    node = IntelNode(
        version=5,
        report={"tee_tcb_svn": bytes([3, 1])},
        tcb_info={"tcbLevels": [level() | advised, old]},
    )
    claims = node.verify()
    assert (claims.status, claims.advisory_ids) == ("TDRelaunchAdvised", ("INTEL-SA-00002",))


@pytest.mark.parametrize("dynamic", [True, False, None])
def test_whether_processors_can_be_added_is_claimed(dynamic):
    assert IntelNode(pck={"dynamic": dynamic}).verify().dynamic_platform is dynamic


def test_both_judges_must_have_read_the_same_report(refused, monkeypatch):
    judge = dcap.judge

    def mistaken(*args, **kwargs):
        found = judge(*args, **kwargs)
        found["report"]["TD10"]["mr_td"] = "00" * 48
        return found

    monkeypatch.setattr(dcap, "judge", mistaken)
    assert refused(IntelNode().verify) is Code.TDX_DCAP_REFUSED


def test_claims_are_a_json_object(honest):
    claims = honest.verify().to_json()
    assert json.loads(json.dumps(claims)) == claims
    assert claims["version"] == honest.version
    assert claims["report_data"] == "5a" * 64
    assert claims["mr_enclave" if honest.is_sgx else "mr_td"]
    assert not any(name.startswith("reserved") for name in claims)


def regions(node):
    """What is signed, each with what else is needed to verify it flipped."""
    quote, collateral = node.quote(), node.collateral()
    members = json.loads(collateral)

    def of_collateral(name):
        def flipped(data):
            value = data.hex() if name.endswith("crl") else data.decode("latin-1")
            return quote, json.dumps(members | {name: value}).encode()

        value = members[name]
        return (bytes.fromhex(value) if name.endswith("crl") else value.encode()), flipped

    names = ("tcb_info", "qe_identity", "root_ca_crl", "pck_crl", "tcb_info_issuer_chain")
    return [(quote, lambda data: (data, collateral)), *map(of_collateral, names)]


def check_flips(node, count):
    roots = frozenset({node.root})
    for number, (data, join) in enumerate(regions(node)):
        dice = random.Random(number)
        for _ in range(count):
            offset, mask = dice.randrange(len(data)), dice.randrange(1, 256)
            flipped = bytearray(data)
            flipped[offset] ^= mask
            with pytest.raises(Refused):
                verify(*join(bytes(flipped)), roots=roots, at=NOW)


def test_a_flipped_byte_anywhere_is_refused(honest):
    """The whole quote, padding and certificates too, and every signed part of the collateral."""
    check_flips(replace(honest, padding=bytes(100)), 20)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_ten_thousand_flipped_bytes_are_refused(honest):
    check_flips(replace(honest, padding=bytes(100)), 10_000)
