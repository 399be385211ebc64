"""A policy file: strict by default, and refused with the key that is wrong."""

import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import Code, PolicyError, Refused
from attestation.verifier.engine_policy import EnginePolicy
from attestation.verifier.engine_rules import EngineRules
from attestation.verifier.explanation import duration
from attestation.verifier.policy import ClientPolicy
from attestation.verifier.policy_file import MAX_LENGTH, parse_policy
from attestation.verifier.unsafe_policy import AcceptEverythingUnsafe
from attestation.verifier.weakness import Weakness

DIGEST = "ab" * 32
FULL = f"""
accepted-weaknesses = ["boot-only", "compute-unverified"]
platforms = ["snp"]
max-quote-age-s = 60
max-checkpoint-age-s = 120
notice-s = 0

[releases]
snp = ["{DIGEST}"]

[models]
"a model/with.signs" = ["{DIGEST}", "{"cd" * 48}"]

[engine]
verification = "full"
offload = "none"
refused-optimisations = ["priority"]
"""


def refusal(text):
    with pytest.raises(PolicyError) as refused:
        parse_policy(text)
    return str(refused.value)


def test_the_empty_file_is_the_default_policy():
    assert parse_policy("") == parse_policy("# nothing\n") == ClientPolicy()


def test_every_kind_of_field_is_read():
    assert parse_policy(FULL) == ClientPolicy(
        accepted_weaknesses=frozenset({Weakness.BOOT_ONLY, Weakness.COMPUTE_UNVERIFIED}),
        platforms=frozenset({"snp"}),
        max_quote_age_s=60,
        max_checkpoint_age_s=120,
        releases={"snp": frozenset({DIGEST})},
        models={"a model/with.signs": frozenset({DIGEST, "cd" * 48})},
        engine=EngineRules("full", offload="none", refused_optimisations=frozenset({"priority"})),
    )


def test_every_field_of_every_part_can_be_written():
    table = tomllib.loads(FULL)
    permitted = refusal("x = 1").partition("permitted: ")[2].split(", ")
    assert permitted == sorted(f.name.replace("_", "-") for f in dataclasses.fields(ClientPolicy))
    assert set(table) <= set(permitted)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x = 1", "there is no x; permitted: accepted-weaknesses, "),
        ("max_quote_age_s = 1", "there is no max_quote_age_s"),
        ("[engine]\nx = 1", "there is no engine.x; permitted: offload, "),
        ("engine = 1", "engine is not a table"),
        ("models = []", "models is not a table"),
        ("max-quote-age-s = true", "max-quote-age-s is not an integer"),
        ("max-quote-age-s = 1.0", "max-quote-age-s is not an integer"),
        ("max-quote-age-s = -1", "below zero"),
        ('platforms = "snp"', "platforms is not an array"),
        ("platforms = [1]", "platforms is not a text"),
        ('platforms = ["snp", "snp"]', "platforms names something twice"),
        ('platforms = ["simulated"]', "naming the weakness simulated"),
        ('accepted-weaknesses = ["all"]', "no value all; permitted: boot-only, "),
        ('[models]\nx = "y"', "models.x is not an array"),
        ('[models]\nx = ["y"]', "hex digits"),
        ("[engine]\nverification = 1", "engine.verification is not a text"),
        ('[engine]\nverification = "none"', "policy, engine: verification is one of"),
        ("a = 1\na = 1", "not TOML"),
        ("a = ", "not TOML"),
        ("a = " + "[" * 5000, "not TOML"),
        ("a = " + "9" * 5000, "not TOML"),
        ("#" * (MAX_LENGTH + 1), "too long"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(text, named):
    assert named in refusal(text)


@settings(max_examples=25, deadline=None, derandomize=True)  # the fuzz slice has more
@given(st.text(max_size=60))
def test_any_text_is_a_policy_or_refused(text):
    try:
        parse_policy(text)
    except PolicyError:
        return


@pytest.mark.parametrize(
    "text",
    [
        "accept-everything-unsafe = false",
        "accept-everything-unsafe = 1",
        'accept-everything-unsafe = "true"',
        'accept-everything-unsafe = true\nplatforms = ["snp"]',
    ],
)
def test_everything_is_accepted_by_one_line_that_stands_alone(text):
    assert "stands alone" in refusal(text)


class _Quote:
    weaknesses = frozenset({Weakness.SIMULATED})

    def check_policy(self, policy, *, at):  # noqa: ARG002
        raise Refused(Code.QUOTE_WEAK, "not to be asked")


def test_the_policy_that_accepts_everything_says_so_and_names_every_weakness():
    policy = parse_policy("accept-everything-unsafe = true")
    assert isinstance(policy, AcceptEverythingUnsafe)
    assert policy.accepted_weaknesses == frozenset(Weakness)
    assert policy.accept_platform("tpm") == {Weakness.BOOT_ONLY}
    assert policy.accept_platform("tdx") == frozenset()
    assert "UNSAFE" in policy.accept_quote(_Quote(), at=0)
    worst = EnginePolicy(bytes(32), "none", "plain", "shared", "cuda", {"priority": "on"})
    expected = {Weakness.COMPUTE_UNVERIFIED, Weakness.TRANSFERS_PLAIN}
    assert policy.accept_engine(worst) == expected
    ((_, sentences),) = policy.explain().items()
    assert "UNSAFE" in sentences[0]


def test_no_other_policy_is_the_unsafe_one():
    everything = ClientPolicy(frozenset(Weakness))
    assert not isinstance(everything, AcceptEverythingUnsafe)
    assert everything != AcceptEverythingUnsafe()


def test_every_demand_is_a_plain_sentence():
    for policy in (ClientPolicy(), parse_policy(FULL), ClientPolicy(platforms=frozenset())):
        sentences = [each for part in policy.explain().values() for each in part]
        assert all(sentence.endswith(".") for sentence in sentences)
        assert len(set(sentences)) == len(sentences)


def test_the_explanation_follows_the_policy():
    default, own = ClientPolicy().explain(), parse_policy(FULL).explain()
    assert "7 h old" in default["node"][2]
    assert "1 min old" in own["node"][2]
    assert "every release in the log" in default["log"][0]
    assert "own list: 2 of a model/with.signs" in own["log"][1]
    assert default["accepted weaknesses"][0].startswith("None")
    assert "boot-only: host can read memory" in own["accepted weaknesses"][0]
    assert "no platform" in ClientPolicy(platforms=frozenset()).explain()["node"][0]


def test_durations_are_told_in_their_largest_whole_unit():
    told = [duration(seconds) for seconds in (0, 59, 60, 3600, 86_400, 90_000)]
    assert told == ["0 s", "59 s", "1 min", "1 h", "1 d", "25 h"]


def test_the_specifications_example_is_the_default():
    page = Path(__file__).parents[3] / "docs" / "spec" / "policy.md"
    text = page.read_text().split("```toml\n")[1].split("```")[0]
    assert parse_policy(text) == ClientPolicy()
