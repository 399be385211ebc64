"""The default policy accepts no weakness; any other names each one it accepts."""

from dataclasses import replace
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


@pytest.mark.parametrize(
    ("platform", "reason"),
    [
        ("simulated", "naming the weakness simulated"),
        ("tpm", "naming the weakness boot-only"),
        ("gce-vtpm", "naming the weakness boot-only"),
        ("nvidia", "does not exist"),
    ],
)
def test_a_weak_platform_is_accepted_by_its_weakness_and_never_listed(platform, reason):
    with pytest.raises(ValueError, match=reason):
        ClientPolicy(platforms=frozenset({"tdx", platform}))


@pytest.mark.parametrize("platform", ["tpm", "gce-vtpm"])
def test_a_policy_that_names_boot_only_accepts_what_proves_no_more(platform):
    policy = ClientPolicy(frozenset({Weakness.BOOT_ONLY}))
    assert policy.accept_platform(platform) == {Weakness.BOOT_ONLY}
    with pytest.raises(Refused):
        policy.accept_platform("simulated")


def test_a_policy_may_accept_fewer_platforms():
    policy = ClientPolicy(platforms=frozenset({"snp"}))
    assert policy.accept_platform("snp") == frozenset()
    with pytest.raises(Refused):
        policy.accept_platform("tdx")


class _Quote:
    weaknesses = frozenset({Weakness.BOOT_ONLY})

    def check_policy(self, policy, *, at):  # noqa: ARG002
        return f"asked at {at}"


def test_what_is_weak_about_a_quote_is_accepted_by_name_whatever_its_platform_is_called():
    with pytest.raises(Refused) as refused:
        ClientPolicy().accept_quote(_Quote(), at=1)
    assert refused.value.code is Code.QUOTE_WEAK
    assert "boot-only: host can read memory" in refused.value.reason
    accepting = ClientPolicy(frozenset({Weakness.BOOT_ONLY}))
    assert accepting.accept_quote(_Quote(), at=1) == "asked at 1"


DIGEST = "ab" * 32


def test_a_list_of_releases_comes_on_top_of_the_log():
    ClientPolicy().accept_release("tdx", bytes(32))
    policy = ClientPolicy(releases={"tdx": frozenset({DIGEST})})
    policy.accept_release("tdx", bytes.fromhex(DIGEST))
    for platform, measurement in (("tdx", bytes(32)), ("snp", bytes.fromhex(DIGEST))):
        with pytest.raises(Refused) as refused:
            policy.accept_release(platform, measurement)
        assert refused.value.code is Code.RELEASE_NOT_ALLOWED


def test_a_list_of_models_comes_on_top_of_the_log():
    ClientPolicy().accept_model("tiny", bytes(32))
    policy = ClientPolicy(models={"tiny": frozenset({DIGEST})})
    policy.accept_model("tiny", bytes.fromhex(DIGEST))
    for name, digest in (("tiny", bytes(32)), ("other", bytes.fromhex(DIGEST))):
        with pytest.raises(Refused) as refused:
            policy.accept_model(name, digest)
        assert refused.value.code is Code.MODEL_NOT_ALLOWED


@pytest.mark.parametrize("digest", ["", "ab", "AB" * 32, "ab" * 31, "ab" * 65, "a" * 65, " " * 64])
def test_a_list_holds_digests_in_lower_case_hex(digest):
    for lists in ({"releases": {"tdx": {digest}}}, {"models": {"tiny": {digest}}}):
        with pytest.raises(ValueError, match="hex digits"):
            ClientPolicy(**lists)


@pytest.mark.parametrize("age", ["max_quote_age_s", "max_checkpoint_age_s", "notice_s"])
def test_no_age_is_below_zero(age):
    with pytest.raises(ValueError, match="below zero"):
        ClientPolicy(**{age: -1})


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
        (
            replace(engine(prefix_cache="upstream"), erasure="upstream"),
            Weakness.MEMORY_NOT_ERASED,
            Code.MEMORY_NOT_ERASED,
        ),
    ],
)
def test_each_weakness_is_accepted_by_its_own_name_only(weak, weakness, code):
    for accepted in (frozenset(), frozenset(Weakness) - {weakness}):
        with pytest.raises(Refused) as refused:
            ClientPolicy(accepted).accept_engine(weak)
        assert refused.value.code is code
    assert ClientPolicy(frozenset({weakness})).accept_engine(weak) == {weakness}


@pytest.mark.parametrize("prefix_cache", ["shared", "direct"])
def test_another_engine_must_not_say_that_it_shares(prefix_cache):
    foreign = replace(engine(prefix_cache=prefix_cache), erasure="upstream")
    with pytest.raises(Refused) as refused:
        ClientPolicy(frozenset(Weakness)).accept_engine(foreign)
    assert refused.value.code is Code.CACHE_ACROSS_REQUESTS


def test_two_weaknesses_are_both_named():
    found = ClientPolicy(frozenset(Weakness)).accept_engine(engine("none", "plain"))
    assert found == {Weakness.COMPUTE_UNVERIFIED, Weakness.TRANSFERS_PLAIN}


@pytest.mark.parametrize("prefix_cache", ["shared", "", "Request", "direct", "upstream"])
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
