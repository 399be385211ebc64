"""The trust file: read whole, or refused with the one error that names what is wrong with it."""

import pytest

from client.errors import TrustFileError
from client.trust import load_trust, parse_trust
from tests.fuzz.party_targets import trust_files

TEXT = next(trust_files()).decode()


def test_an_honest_file_is_read():
    trust = parse_trust(TEXT)
    assert trust.simulated
    assert trust.issuer_name == "issuer.example"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[log]", "[log"),
        ("quorum = 2", "quorum = 4"),
        ("quorum = 2", "quorum = 0"),
        ("quorum = 2", 'quorum = 2\nfurther = "x"'),
        ('key = "log', 'key = " log'),
        ('key = "log', 'key = "gol'),
        ("list = ", "liste = "),
        ("6c697374", "6C697374"),
        (f'list = "{b"list".hex():0>64}"', f'list = "{b"issuer".hex():0>64}"'),
        ("[platforms]", "a = " + "[" * 5000),
    ],
)
def test_every_other_file_is_a_trust_file_error(old, new):
    assert old in TEXT
    with pytest.raises(TrustFileError):
        parse_trust(TEXT.replace(old, new, 1))


def test_a_file_that_is_missing_or_no_text_is_one_too(tmp_path):
    with pytest.raises(TrustFileError):
        load_trust(tmp_path / "trust.toml")
    (tmp_path / "trust.toml").write_bytes(b"\xff\xfe[log]")
    with pytest.raises(TrustFileError):
        load_trust(tmp_path / "trust.toml")
