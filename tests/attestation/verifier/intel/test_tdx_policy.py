from dataclasses import fields, replace

import pytest

from attestation.errors import Code
from attestation.verifier.intel.policy import TdxPolicy
from tests.support.evidence.intel import DAY, NOW, IntelNode

STRICT = TdxPolicy()
CLAIMS = IntelNode().verify()


def with_attributes(bits):
    attributes = ((1 << 28) | bits).to_bytes(8, "little")
    return replace(CLAIMS, report=replace(CLAIMS.report, td_attributes=attributes))


def test_an_honest_platform_satisfies_the_strict_policy():
    assert STRICT.check(CLAIMS, at=NOW) == "TCB UpToDate, judged by recovery 18"


@pytest.mark.parametrize(
    ("claims", "policy", "code"),
    [
        (IntelNode(version=3).verify(), STRICT, Code.TDX_NOT_A_TD),
        (replace(CLAIMS, status="SWHardeningNeeded"), STRICT, Code.TDX_TCB_STATUS),
        (replace(CLAIMS, status="TDRelaunchAdvised"), STRICT, Code.TDX_TCB_STATUS),
        (CLAIMS, replace(STRICT, accepted_statuses=frozenset()), Code.TDX_TCB_STATUS),
        (
            replace(CLAIMS, advisory_ids=("INTEL-SA-1", "INTEL-SA-2")),
            replace(STRICT, refused_advisories=frozenset({"INTEL-SA-2"})),
            Code.TDX_ADVISORY,
        ),
        (replace(CLAIMS, tcb_evaluation_number=16), STRICT, Code.TDX_TCB_EVALUATION_TOO_OLD),
        (
            replace(CLAIMS, collateral_issued_at=NOW - 7 * DAY - 1),
            STRICT,
            Code.TDX_COLLATERAL_TOO_OLD,
        ),
        (CLAIMS, replace(STRICT, allow_dynamic_platform=False), Code.TDX_DYNAMIC_PLATFORM),
        (with_attributes(1 << 63), STRICT, Code.TDX_PERFMON),
        (with_attributes(1 << 31), STRICT, Code.TDX_KEY_LOCKER),
        (with_attributes(1 << 62), STRICT, Code.TDX_PROVISIONING_AGENT),
    ],
)
def test_what_breaks_a_rule_is_refused(refused, claims, policy, code):
    assert refused(policy.check, claims, at=NOW) is code


@pytest.mark.parametrize(
    ("claims", "policy"),
    [
        (
            replace(CLAIMS, status="OutOfDate"),
            replace(STRICT, accepted_statuses=frozenset({"UpToDate", "OutOfDate"})),
        ),
        (replace(CLAIMS, advisory_ids=("INTEL-SA-1",)), STRICT),
        (replace(CLAIMS, tcb_evaluation_number=17), STRICT),
        (replace(CLAIMS, collateral_issued_at=NOW - 7 * DAY), STRICT),
        (
            replace(CLAIMS, dynamic_platform=None),
            replace(STRICT, allow_dynamic_platform=False),
        ),
        (with_attributes(1 << 63), replace(STRICT, allow_perfmon=True)),
        (with_attributes(1 << 31), replace(STRICT, allow_key_locker=True)),
        (with_attributes(1 << 62), replace(STRICT, allow_provisioning_agent=True)),
        (with_attributes(1 << 30), STRICT),
    ],
)
def test_what_keeps_every_rule_will_do(claims, policy):
    assert policy.check(claims, at=NOW)


def test_old_collateral_is_refused_though_nothing_in_it_has_expired(refused):
    node = IntelNode(dates={"pck_crl": (NOW - 8 * DAY, NOW + DAY)})
    assert refused(STRICT.check, node.verify(), at=NOW) is Code.TDX_COLLATERAL_TOO_OLD


def test_every_rule_is_explained_in_a_sentence():
    changed = TdxPolicy(
        frozenset({"UpToDate", "SWHardeningNeeded"}),
        frozenset({"INTEL-SA-1"}),
        19,
        3600,
        *(not getattr(STRICT, each.name) for each in fields(TdxPolicy)[4:]),
    )
    strict, other = STRICT.explain(), changed.explain()
    assert all(sentence.endswith(".") for sentence in strict)
    assert sum(a != b for a, b in zip(strict, other, strict=True)) == len(fields(TdxPolicy))
    assert "The platform's TCB status is SWHardeningNeeded or UpToDate." in other
    assert "Intel's collateral is at most 7 days old." in strict
