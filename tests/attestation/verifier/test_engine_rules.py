"""Rules of the engine: each value a policy may demand, and what it rules out."""

import pytest

from attestation.errors import Code, Refused
from attestation.verifier.engine_policy import EnginePolicy
from attestation.verifier.engine_rules import ACROSS_REQUESTS_OR_NODES, EngineRules


def engine(verification="audit", transfers="sealed", prefix_cache="request", **rows):
    return EnginePolicy(bytes(32), verification, transfers, prefix_cache, "cuda", rows)


def code(rules, **promised):
    with pytest.raises(Refused) as refused:
        rules.check(engine(**promised))
    return refused.value.code


def test_the_default_accepts_what_our_engine_may_do():
    rows = {"paging": "on", "kv_offload_host": "declared", "kv_offload_disk": "off"}
    EngineRules().check(engine(**rows, priority="refused"))


@pytest.mark.parametrize("least", ["audit", "full", "ship"])
def test_less_verification_than_demanded(least):
    EngineRules(verification=least).check(engine(verification=least))
    if least != "audit":
        found = code(EngineRules(verification=least), verification="audit")
        assert found is Code.ENGINE_VERIFICATION_TOO_WEAK


def test_less_protected_transfers_than_demanded():
    for least, less in (("sealed", "cc"), ("none", "cc"), ("none", "sealed")):
        rules = EngineRules(transfers=least)
        rules.check(engine(transfers=least))
        assert code(rules, transfers=less) is Code.ENGINE_TRANSFERS_TOO_WEAK


def test_what_is_a_weakness_is_not_for_the_rules():
    EngineRules(verification="full", transfers="none").check(engine("none", "plain"))


def test_a_prefix_cache_is_within_one_request_or_not_at_all():
    EngineRules().check(engine(prefix_cache="none"))
    EngineRules(prefix_cache="none").check(engine(prefix_cache="none"))
    assert code(EngineRules(), prefix_cache="direct") is Code.CACHE_ACROSS_REQUESTS
    assert code(EngineRules(prefix_cache="none")) is Code.CACHE_ACROSS_REQUESTS


@pytest.mark.parametrize("state", ["on", "declared"])
def test_kv_blocks_go_no_farther_than_accepted(state):
    host, disk = {"kv_offload_host": state}, {"kv_offload_disk": state}
    EngineRules().check(engine(**host))
    EngineRules(offload="disk").check(engine(**host, **disk))
    assert code(EngineRules(), **disk) is Code.ENGINE_OFFLOAD_TOO_FAR
    assert code(EngineRules(offload="none"), **host) is Code.ENGINE_OFFLOAD_TOO_FAR


@pytest.mark.parametrize("name", sorted(ACROSS_REQUESTS_OR_NODES))
def test_what_remembers_or_tells_requests_apart_is_used_in_no_form(name):
    assert code(EngineRules(), **{name: "declared"}) is Code.ENGINE_OPTIMISATION_REFUSED
    EngineRules(refused_optimisations=frozenset()).check(engine(**{name: "on"}))


@pytest.mark.parametrize("name", ["verification", "transfers", "prefix_cache", "offload"])
@pytest.mark.parametrize("value", ["", "plain", "everything"])
def test_a_rule_has_one_of_its_values(name, value):
    with pytest.raises(ValueError, match=name.replace("_", "-")):
        EngineRules(**{name: value})


def test_verification_by_nothing_is_no_rule():
    with pytest.raises(ValueError, match="audit, full, ship"):
        EngineRules(verification="none")


def test_each_rule_is_explained():
    sentences = EngineRules(refused_optimisations=frozenset()).explain()
    assert len(sentences) == 5
    assert all(sentence.endswith(".") for sentence in sentences)
    assert "nothing is ruled out" in sentences[-1]
    assert EngineRules(offload="none").explain()[3] == "KV blocks stay on the accelerator."
