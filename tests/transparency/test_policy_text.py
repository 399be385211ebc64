"""c2sp.org/tlog-policy: the part that a policy of one log and k of n witnesses can say."""

from dataclasses import replace

import pytest

from transparency.errors import Malformed
from transparency.policy_text import MAX_LENGTH, encode_policy, parse_policy


@pytest.fixture
def keys(world):
    return {
        "LOG": world.policy.log_vkey,
        **{f"W{i}": vkey for i, vkey in enumerate(world.policy.witness_vkeys, start=1)},
    }


def filled(text, keys):
    for name, vkey in keys.items():
        text = text.replace(name, vkey)
    return text


def test_a_policy_is_read_back_as_it_was_written(world):
    text = encode_policy(world.policy)
    assert text.splitlines()[-2:] == ["group witnesses 2 w1 w2 w3", "quorum witnesses"]
    assert parse_policy(text) == world.policy
    assert parse_policy(text, max_cosignature_age_s=60).max_cosignature_age_s == 60


@pytest.mark.parametrize(
    ("text", "quorum"),
    [
        ("log LOG\nwitness a W1\nquorum a\n", 1),
        ("log LOG https://log.example/\nwitness a W1 https://a.example\nquorum a\n", 1),
        ("witness a W1\nwitness b W2\ngroup g any a b\nlog LOG\nquorum g\n", 1),
        ("witness a W1\nwitness b W2\ngroup g all a b\nlog LOG\nquorum g\n", 2),
        ("# a comment\n\n \tlog\t LOG \nwitness a W1\n \t\nquorum a\n  # the end\n", 1),
        ("log LOG\nwitness \u212a W1\nquorum \u212a\n", 1),
    ],
)
def test_other_spellings_of_the_format_are_read(keys, text, quorum):
    policy = parse_policy(filled(text, keys))
    assert policy.quorum == quorum
    assert policy.log_vkey == keys["LOG"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log LOG\nwitness a W1\nquorum a",
        "log LOG\nwitness a W1\nquorum a\r\n",
        "log LOG\nwitness a W1\nquorum a\0\n",
        "log LOG\nwitness a W1\n",
        "witness a W1\nquorum a\n",
        "log LOG\nlog LOG\nwitness a W1\nquorum a\n",
        "log LOG\nwitness a W1\nquorum a\nquorum a\n",
        "log LOG\nquorum a\nwitness a W1\n",
        "log LOG\nquorum none\n",
        "log LOG\nwitness none W1\nquorum none\n",
        "log LOG\nwitness a W1\nwitness a W2\nquorum a\n",
        "log LOG\nwitness a W1\nwitness b W1\ngroup g any a b\nquorum g\n",
        "log LOG\nwitness a W1\ngroup a any a\nquorum a\n",
        "log LOG\nwitness a W1\ngroup g 0 a\nquorum g\n",
        "log LOG\nwitness a W1\ngroup g 2 a\nquorum g\n",
        "log LOG\nwitness a W1\ngroup g 01 a\nquorum g\n",
        "log LOG\nwitness a W1\ngroup g some a\nquorum g\n",
        "log LOG\nwitness a W1\ngroup g any a a\nquorum g\n",
        "log LOG\nwitness a W1\ngroup g any b\nquorum g\n",
        "log LOG\nwitness a W1\ngroup g any\nquorum g\n",
        "log LOG\nwitness a W1 x y\nquorum a\n",
        "log LOG\nwitness a\nquorum a\n",
        "log\nwitness a W1\nquorum a\n",
        "Log LOG\nwitness a W1\nquorum a\n",
        "log W1\nwitness a W1\nquorum a\n",
        "log LOG\nwitness a LOG\nquorum a\n",
        # More than one log and k of n witnesses:
        "log LOG\nwitness a W1\nwitness b W2\nquorum a\n",
        "log LOG\nwitness a W1\nwitness b W2\ngroup g any a\ngroup h all g b\nquorum h\n",
    ],
)
def test_what_is_no_policy_or_says_more_is_refused(keys, text):
    with pytest.raises(Malformed):
        parse_policy(filled(text, keys))


def test_a_policy_is_of_bounded_length(world):
    with pytest.raises(Malformed):
        parse_policy(encode_policy(world.policy) + "#" * MAX_LENGTH + "\n")


def test_the_age_of_cosignatures_is_not_in_the_format(world):
    patient = replace(world.policy, max_cosignature_age_s=7)
    assert encode_policy(patient) == encode_policy(world.policy)
