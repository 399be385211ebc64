"""The policy under which the proxy runs: a file, and weaknesses named beside it."""

import pytest
from typer.testing import CliRunner

from attestation.verifier.policy import ClientPolicy
from attestation.verifier.weakness import Weakness
from client.errors import TrustFileError
from client.trust import load_policy
from sottovoce.commands import proxy


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Run the command up to where it would serve; return the configuration it would serve by."""
    configs = []
    monkeypatch.setattr(proxy, "serve_proxy", configs.append)
    monkeypatch.setattr(proxy, "load_trust", lambda _: None)
    key = tmp_path / "key"
    key.write_text("account\n")

    def run(*arguments):
        given = ["--trust", "x", "--relay", "http://127.0.0.1:1", "--issuer", "http://127.0.0.1:2"]
        files = ["--account-key", str(key), "--state", str(tmp_path / "state")]
        result = CliRunner().invoke(proxy.app, [*given, *files, *arguments])
        if result.exception is not None:
            raise result.exception
        return configs[-1].policy

    return run


def test_without_a_file_the_policy_is_the_default(started):
    assert started() == ClientPolicy()
    assert started("--accept", "simulated") == ClientPolicy(frozenset({Weakness.SIMULATED}))


def test_a_file_and_weaknesses_beside_it(started, tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text('platforms = ["snp"]\naccepted-weaknesses = ["boot-only"]\n')
    policy = started("--policy", str(file), "--accept", "compute-unverified")
    assert policy.platforms == {"snp"}
    assert policy.accepted_weaknesses == {Weakness.BOOT_ONLY, Weakness.COMPUTE_UNVERIFIED}


def test_a_file_that_is_no_policy_is_said(started, tmp_path):
    file = tmp_path / "policy.toml"
    for content, reason in ((b"x = 1", "there is no x"), (b"\xff", "policy file"), (None, "read")):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(TrustFileError, match=reason):
            started("--policy", str(file))


def test_a_file_is_read_up_to_its_bound(tmp_path):
    file = tmp_path / "policy.toml"
    with file.open("wb") as huge:
        huge.truncate(1 << 30)
    with pytest.raises(TrustFileError, match="too long"):
        load_policy(file)
