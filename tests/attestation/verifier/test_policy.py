"""The default policy accepts no weakness; any other names each one it accepts."""

from types import MappingProxyType

import pytest

from attestation.errors import Code, Refused
from attestation.verifier.engine_policy import EnginePolicy
from attestation.verifier.policy import (
    NOTICE_S,
    ClientPolicy,
    admission_policy,
)
from attestation.verifier.weakness import WARNINGS, Weakness


def engine(verification="audit", transfers="sealed", prefix_cache="request"):
    rows = MappingProxyType({})
    return EnginePolicy(bytes(32), verification, transfers, prefix_cache, "cpu", rows)


def test_the_default_policy_accepts_real_platforms_only():
    policy = ClientPolicy()
    for platform in ("tdx", "snp", "azure-vtpm"):
        assert policy.accept_platform(platform) == frozenset()
    for platform in ("simulated", "tpm", "gce-vtpm", "nvidia", ""):
        with pytest.raises(Refused) as refused:
            policy.accept_platform(platform)
        assert refused.value.code is Code.PLATFORM_REFUSED


def test_naming_simulated_among_the_platforms_does_not_accept_it():
    policy = ClientPolicy(platforms=frozenset({"simulated"}))
    with pytest.raises(Refused):
        policy.accept_platform("simulated")


def test_a_policy_that_names_simulated_accepts_it_by_that_name():
    policy = ClientPolicy(frozenset({Weakness.SIMULATED}))
    assert policy.accept_platform("simulated") == {Weakness.SIMULATED}
    assert policy.accept_platform("tdx") == frozenset()
    with pytest.raises(Refused):
        policy.accept_platform("tpm")


def test_the_names_may_be_plain_text_but_must_exist():
    policy = ClientPolicy(frozenset({"simulated", "transfers-plain"}))
    assert policy.accepted_weaknesses == {Weakness.SIMULATED, Weakness.TRANSFERS_PLAIN}
    with pytest.raises(ValueError, match="everything"):
        ClientPolicy(frozenset({"everything"}))


@pytest.mark.parametrize("verification", ["audit", "full", "ship"])
@pytest.mark.parametrize("transfers", ["none", "sealed", "cc"])
def test_the_default_policy_accepts_a_strong_engine(verification, transfers):
    assert ClientPolicy().accept_engine(engine(verification, transfers)) == frozenset()


@pytest.mark.parametrize(
    ("weak", "weakness", "code"),
    [
        (engine(verification="none"), Weakness.COMPUTE_UNVERIFIED, Code.COMPUTE_UNVERIFIED),
        (engine(transfers="plain"), Weakness.TRANSFERS_PLAIN, Code.TRANSFERS_PLAIN),
    ],
)
def test_each_weakness_is_accepted_by_its_own_name_only(weak, weakness, code):
    for accepted in (frozenset(), frozenset(Weakness) - {weakness}):
        with pytest.raises(Refused) as refused:
            ClientPolicy(accepted).accept_engine(weak)
        assert refused.value.code is code
    assert ClientPolicy(frozenset({weakness})).accept_engine(weak) == {weakness}


def test_two_weaknesses_are_both_named():
    found = ClientPolicy(frozenset(Weakness)).accept_engine(engine("none", "plain"))
    assert found == {Weakness.COMPUTE_UNVERIFIED, Weakness.TRANSFERS_PLAIN}


@pytest.mark.parametrize("prefix_cache", ["shared", "", "Request", "direct"])
def test_no_policy_accepts_a_cache_across_requests(prefix_cache):
    with pytest.raises(Refused) as refused:
        ClientPolicy(frozenset(Weakness)).accept_engine(engine(prefix_cache=prefix_cache))
    assert refused.value.code is Code.CACHE_ACROSS_REQUESTS


def test_every_weakness_has_its_warning():
    assert set(WARNINGS) == set(Weakness)
    assert WARNINGS[Weakness.SIMULATED] == "SIMULATED: proves nothing about hardware"


def test_a_log_admits_ahead_of_use_and_is_as_strict_otherwise():
    assert admission_policy() == ClientPolicy(notice_s=NOTICE_S)
    accepted = frozenset({Weakness.SIMULATED})
    assert admission_policy(accepted) == ClientPolicy(accepted, notice_s=NOTICE_S)
