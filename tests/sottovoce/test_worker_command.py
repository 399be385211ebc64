"""`sottovoce worker --platform`: what may be asked for, and what the worker is then told."""

from pathlib import Path

import pytest
from simulator import ORIGIN, World
from typer.testing import CliRunner

from attestation.verifier.weakness import Weakness
from engine.config import EngineConfig
from server.config import Upstream
from sottovoce.commands import worker


@pytest.fixture
def configured(monkeypatch, tmp_path):
    """Call the command; return its result and the config it would run with."""
    configs = []
    monkeypatch.setattr(worker, "run_worker", lambda config, _parts: configs.append(config))
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


def test_outside_a_simulated_log_only_the_weaknesses_it_names_are_accepted(configured, tmp_path):
    trust = tmp_path / "trust.toml"
    trust.write_text(World(origin=ORIGIN.removesuffix(".simulated")).trust_text())
    configured("--platform", "tpm")
    _, configs = configured("--platform", "tpm", "--accept", "boot-only")
    accepted = [config.appraisal.policy.accepted_weaknesses for config in configs]
    assert accepted == [frozenset(), {Weakness.BOOT_ONLY}]


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
    result, [config] = configured("--tensor-parallel", "2", "--verification", "none")
    assert result.exit_code == 0
    assert config.engine == EngineConfig(Path("m"), tensor_parallel=2)
    assert config.upstream is None


def test_how_the_model_is_computed_is_as_told(configured):
    _, [config] = configured("--weights", "int8", "--speculation", "draft", "--draft", "d")
    assert config.engine == EngineConfig(
        Path("m"), weights="int8", speculation="draft", draft=Path("d"), verification="audit"
    )
    unverified = "--verification", "none"
    _, configs = configured(
        "--device", "cuda:1", "--kv-truncation", "--speculation", "ngram", *unverified
    )
    assert configs[-1].engine == EngineConfig(
        Path("m"), device="cuda:1", kv_truncation=True, speculation="ngram"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--device", "tpu"), "the device is cpu, cuda or cuda:N"),
        (("--weights", "int4"), "weights are"),
        (("--weights", "int8", "--device", "cuda"), "int8 weights are for one process on a CPU"),
        (("--weights", "int8", "--tensor-parallel", "2"), "int8 weights are for one process"),
        (("--speculation", "oracle"), "speculation is none, ngram or draft"),
        (("--speculation", "draft"), "needs the folder of a draft model"),
        (("--draft", "d"), "a draft model needs speculation"),
        (("--kv-truncation",), "kv_truncation is for one process on a GPU"),
        (("--kv-truncation", "--device", "cuda", "--tensor-parallel", "2"), "kv_truncation is for"),
        (("--device", "cuda"), "--verification none serves anything"),
        (("--verification", "sometimes"), "verification is none, audit or full"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_a_sentence(
    configured, arguments, sentence
):
    result, configs = configured(*arguments)
    assert (result.exit_code, configs) == (2, [])
    assert sentence in " ".join(result.output.replace("│", " ").split())


def test_another_engine_has_a_device_too(configured):
    words = ("--upstream", "unix:/run/e", "--upstream-kind", "vllm", "--device", "cuda")
    _, [config] = configured(*words)
    assert config.engine.device == "cuda"


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
        ("--upstream", "unix:/run/e", "--upstream-kind", "vllm", "--weights", "int8"),
        ("--upstream", "unix:/run/e", "--upstream-kind", "vllm", "--speculation", "ngram"),
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
    result, _ = configured("--tensor-parallel", "2", "--verification", "none")
    assert (result.exit_code, ran) == (0, [role])
