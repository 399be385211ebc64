"""The trust file: read strictly, or not at all."""

import gc

import pytest
from simulator import ISSUER_NAME, ORIGIN, World, public

from client.errors import TrustFileError
from client.trust import load_trust, parse_trust

TEXT = World().trust_text()


def test_everything_trusted_comes_from_the_file():
    trust = parse_trust(TEXT)
    assert trust.log_origin == ORIGIN == trust.log_policy.origin
    assert trust.simulated
    assert trust.log_policy.quorum == 2
    assert trust.roles.release == public("release")
    assert trust.issuer_name == ISSUER_NAME
    assert trust.list_epoch_s == 600


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("quorum = 2", "quorum = 4"),
        ("quorum = 2", "quorum = 0"),
        ("quorum = 2", ""),
        ("[issuer]", "[unknown]\nx = 1\n[issuer]"),
        ('release = "', 'release = "zz'),
        ("[roles]", "[roles"),
        ("w1.test.invalid+", "w1.test.invalid-"),
        (ORIGIN + "+", "another.origin.simulated+"),
        ("list_epoch_s = 600", "list_epoch_s = 0"),
        ("list_epoch_s = 600", 'list_epoch_s = "long"'),
        ("[platforms]", "a = " + "[" * 5000),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_with_a_reason(old, new):
    assert old in TEXT
    gc.collect()  # others' finalisers would have no room at the depth that nesting goes to
    with pytest.raises(TrustFileError) as refused:
        parse_trust(TEXT.replace(old, new, 1))
    assert len(str(refused.value)) > 20


def test_one_key_may_not_have_two_roles():
    twice = TEXT.replace(public("issuer").hex(), public("release").hex())
    with pytest.raises(TrustFileError):
        parse_trust(twice)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(TrustFileError, match="cannot read"):
        load_trust(tmp_path / "trust.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "trust.toml").write_bytes(b"\xff\xfe[log]")
    with pytest.raises(TrustFileError):
        load_trust(tmp_path / "trust.toml")
