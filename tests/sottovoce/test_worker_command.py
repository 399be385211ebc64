"""`sottovoce worker --platform`: what may be asked for, and what the worker is then told."""

from pathlib import Path

import pytest
from simulator import ORIGIN, World
from typer.testing import CliRunner

from attestation.verifier.weakness import Weakness
from server.config import Upstream
from sottovoce.commands import worker


@pytest.fixture
def configured(monkeypatch, tmp_path):
    """Call the command; return its result and the config it would run with."""
    configs = []
    monkeypatch.setattr(worker, "run_worker", lambda config, _parts: configs.append(config))
    monkeypatch.setattr(worker, "worker_engine", lambda *given: given)
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


def test_ranks_and_the_engine_are_as_told(configured):
    result, [config] = configured("--tensor-parallel", "2")
    assert result.exit_code == 0
    assert config.engine == (Path("m"), None, 2)
    assert config.upstream is None


def test_another_engine_by_url_and_kind(configured):
    _, [config] = configured("--upstream", "unix:/run/e", "--upstream-kind", "vllm")
    assert config.upstream == Upstream("unix:/run/e", "vllm", "n")
    named = ("--upstream", "http://127.0.0.1:8000", "--upstream-kind", "openai")
    _, configs = configured(*named, "--upstream-model", "theirs")
    assert configs[-1].upstream == Upstream("http://127.0.0.1:8000", "openai", "theirs")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--upstream", "unix:/run/e"),
        ("--upstream-kind", "vllm"),
        ("--upstream", "unix:/run/e", "--upstream-kind", "llama"),
        ("--upstream", "unix:/run/e", "--upstream-kind", "vllm", "--tensor-parallel", "2"),
        ("--upstream", "unix:/run/e", "--upstream-kind", "vllm", "--adapter", "a"),
        ("--tensor-parallel", "0"),
    ],
)
def test_engines_that_cannot_be_had(configured, arguments):
    result, configs = configured(*arguments)
    assert result.exit_code == 2
    assert not configs


@pytest.mark.parametrize(("rank", "role"), [("0", "worker"), ("1", "rank")])
def test_under_torchrun_the_first_is_the_worker(configured, monkeypatch, rank, role):
    ran = []
    monkeypatch.setattr(worker, "run_worker", lambda *_: ran.append("worker"))
    monkeypatch.setattr(worker, "run_rank", lambda *_: ran.append("rank"))
    names = {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    result, _ = configured("--tensor-parallel", "2")
    assert (result.exit_code, ran) == (0, [role])
