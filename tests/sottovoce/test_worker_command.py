"""`sottovoce worker --platform`: what may be asked for, and what the worker is then told."""

from pathlib import Path

import pytest
from simulator import ORIGIN, World
from typer.testing import CliRunner

from attestation.verifier.weakness import Weakness
from sottovoce.commands import worker


@pytest.fixture
def configured(monkeypatch, tmp_path):
    """Call the command; return its result and the config it would run with."""
    configs = []
    monkeypatch.setattr(worker, "run_worker", lambda config, _parts: configs.append(config))
    monkeypatch.setattr(worker, "worker_engine", lambda *_: None)
    trust = tmp_path / "trust.toml"
    trust.write_text(World().trust_text())

    def call(*arguments):
        words = [
            "--model",
            "m",
            "--name",
            "n",
            "--trust",
            str(trust),
            "--log",
            "l",
            "--issuer",
            "i",
        ]
        words += ["--spent", "s", "--port", "1", *arguments]
        return CliRunner().invoke(worker.app, words), configs

    return call


def test_a_worker_detects_its_platform_unless_told(configured, tmp_path):
    result, [config] = configured("--collateral", str(tmp_path))
    assert result.exit_code == 0
    assert (config.platform, config.platform_seed) == ("auto", None)
    assert config.collateral == tmp_path


def test_simulated_goes_by_its_name_and_key(configured):
    _, [config] = configured("--platform", "simulated", "--platform-key", "k")
    assert (config.platform, config.platform_seed) == ("simulated", Path("k"))


def test_a_worker_holds_its_evidence_against_the_trust_file(configured):
    _, [config] = configured("--platform", "snp")
    assert config.appraisal.log_origin == ORIGIN
    assert config.appraisal.roots.keys() == {"simulated"}
    assert config.appraisal.policy.accepted_weaknesses == frozenset(Weakness)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--platform", "sgx"),
        ("--platform", "simulated"),
        ("--platform", "auto", "--platform-key", "k"),
        ("--platform-key", "k"),
    ],
)
def test_what_cannot_be_meant_is_refused(configured, arguments):
    result, configs = configured(*arguments)
    assert result.exit_code == 2
    assert configs == []
