import hashlib
from dataclasses import dataclass, replace

import pytest

from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import Code
from attestation.verifier.intel.platform import NAME, Tdx
from attestation.verifier.intel.policy import TdxPolicy
from tests.support.evidence.intel import DAY, NOW, IntelNode

RTMRS = [hashlib.sha384(bytes(48) + bytes([index]) * 48).digest() for index in range(4)]
WITH_LOG = IntelNode(report={f"rt_mr{index}": RTMRS[index] for index in range(4)})


def ccel(*events):
    """A log of SHA-384 events, (register, digest), in the area of its table."""
    header = b"Spec ID Event03\0" + bytes(4) + b"\0\2\0\2" + b"\1\0\0\0\x0c\0\x30\0" + b"\0"
    log = bytes(4) + b"\3\0\0\0" + bytes(20) + len(header).to_bytes(4, "little") + header
    for register, digest in events:
        numbers = (register, 0x80000006, 1)
        log += b"".join(number.to_bytes(4, "little") for number in numbers)
        log += b"\x0c\0" + digest + b"\1\0\0\0x"
    return log + b"\xff" * 100


LOG = ccel(*((index + 1, bytes([index]) * 48) for index in range(4)))


def verified(node, event_log=b"", collateral=None):
    bundle = Bundle(b"key document", NAME, node.quote(), b"policy", event_log=event_log)
    parts = Collateral({"intel-dcap": node.collateral()} if collateral is None else collateral)
    return Tdx().verify(bundle, parts, roots=frozenset({node.root}), at=NOW)


QUOTE = verified(IntelNode())


def test_a_trust_domain_is_a_node():
    assert QUOTE.claims.tee == "TDX"
    assert "TDX platform of kind 70707E570000" in QUOTE.worth
    assert QUOTE.weaknesses == frozenset()
    assert Tdx().collateral_names == {"intel-dcap"}


def test_an_enclave_is_none(refused):
    assert refused(verified, IntelNode(version=3)) is Code.TDX_NOT_A_TD


def test_a_quote_without_collateral_is_refused(refused):
    assert refused(verified, IntelNode(), collateral={}) is Code.TDX_COLLATERAL_MISSING


def test_the_measurement_is_over_what_was_built_and_configured():
    parts = [b"\xd0" * 48, *(bytes([0xA0 + index]) * 48 for index in range(4)), bytes(144)]
    label = b"sottovoce tdx measurement v1"
    assert QUOTE.measurement == hashlib.sha256(label + b"".join(parts)).digest()


@pytest.mark.parametrize(
    "name",
    [
        "mr_td",
        "rt_mr0",
        "rt_mr1",
        "rt_mr2",
        "rt_mr3",
        "mr_config_id",
        "mr_owner",
        "mr_owner_config",
    ],
)
def test_each_register_changes_the_measurement(name):
    changed = replace(QUOTE, report=replace(QUOTE.report, **{name: b"\1" * 48}))
    assert changed.measurement != QUOTE.measurement


def test_the_report_data_are_the_64_bytes_themselves(refused):
    assert QUOTE.check_report_data(b"\x5a" * 64)
    assert refused(QUOTE.check_report_data, b"\0" + b"\x5a" * 63) is Code.REPORT_DATA_MISMATCH
    assert refused(QUOTE.check_report_data, b"\x5a" * 63 + b"\0") is Code.NONCE_MISMATCH


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (NOW - DAY - 1, Code.TDX_COLLATERAL_NOT_YET_VALID),
        (NOW + 29 * DAY + 1, Code.TDX_COLLATERAL_EXPIRED),
    ],
)
def test_dates_are_those_of_the_collateral(refused, at, code):
    assert QUOTE.check_dates(at=NOW, max_age_s=0)
    assert refused(QUOTE.check_dates, at=at, max_age_s=0) is code


@dataclass(frozen=True)
class Policies:
    tdx: TdxPolicy


def test_the_policy_for_tdx_is_asked(refused):
    assert QUOTE.check_policy(Policies(TdxPolicy()), at=NOW)
    strange = Policies(TdxPolicy(accepted_statuses=frozenset({"OutOfDate"})))
    assert refused(QUOTE.check_policy, strange, at=NOW) is Code.TDX_TCB_STATUS


def test_an_event_log_must_lead_to_the_registers(refused):
    assert verified(WITH_LOG, LOG).report.rt_mr3 == RTMRS[3]
    for index in range(4):
        node = IntelNode(report=WITH_LOG.report | {f"rt_mr{index}": b"\1" * 48})
        assert refused(verified, node, LOG) is Code.TDX_EVENT_LOG_MISMATCH
    assert refused(verified, WITH_LOG, LOG[:-1] + b"x") is Code.TDX_EVENT_LOG_MALFORMED
    assert refused(verified, WITH_LOG, b"log") is Code.TDX_EVENT_LOG_MALFORMED
