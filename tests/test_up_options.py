"""`sottovoce up` passes its options on to the parties they are for."""

import pytest
from rich.console import Console

from engine.policy import engine_policy
from sottovoce.engine_config import EngineOptions, verification_here
from sottovoce.up import NotReady, Up, UpOptions


def started(tmp_path, monkeypatch, **options):
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path))
    up = Up(UpOptions(20_000, 1, None, 60, **options), Console(quiet=True))
    commands = {}
    monkeypatch.setattr(up.supervisor, "start", lambda name, *words: commands.update({name: words}))
    up._start_path(tmp_path, "tinychat", "account")
    return commands


def test_the_relay_serves_stock_clients_only_when_asked_to(tmp_path, monkeypatch):
    assert "--stock-ohttp" not in started(tmp_path, monkeypatch)["relay"]
    asked = started(tmp_path, monkeypatch, stock_ohttp=True)
    assert "--stock-ohttp" in asked["relay"]
    assert not any("--stock-ohttp" in words for name, words in asked.items() if name != "relay")


def test_a_plain_worker_is_told_no_more_than_its_device(tmp_path, monkeypatch):
    words = started(tmp_path, monkeypatch)
    assert "transfers-plain" not in words["proxy"]
    assert not {"--weights", "--draft", "--kv-truncation"} & set(words["worker0"])


def test_the_engine_s_options_reach_the_worker(tmp_path, monkeypatch):
    engine = EngineOptions("cuda", speculation="ngram", kv_truncation=True)
    words = started(tmp_path, monkeypatch, engine=engine)
    told = " ".join(words["worker0"])
    assert "--device cuda --speculation ngram --kv-truncation" in told
    assert "--accept transfers-plain" in " ".join(words["proxy"])


def test_a_verified_engine_is_not_excused_at_the_proxy(tmp_path, monkeypatch):
    unverified = started(tmp_path, monkeypatch, engine=EngineOptions(verification="none"))
    assert "compute-unverified" in unverified["proxy"]
    verified = started(tmp_path, monkeypatch, engine=EngineOptions(verification="audit"))
    assert "compute-unverified" not in verified["proxy"]
    assert "--verification audit" in " ".join(verified["worker0"])


def test_what_can_be_verified_is(tmp_path, monkeypatch):
    monkeypatch.setattr("sottovoce.engine_config.library.load", lambda: None)
    model = tmp_path / "config.json"
    model.write_text('{"architectures": ["Qwen2ForCausalLM"]}')
    assert verification_here(tmp_path, EngineOptions()) == "audit"
    assert verification_here(tmp_path, EngineOptions("cuda")) == "none"
    model.write_text('{"architectures": ["MixtralForCausalLM"]}')
    assert verification_here(tmp_path, EngineOptions()) == "none"


def test_what_is_published_is_what_the_workers_will_run():
    options = UpOptions(20_000, 1, None, 60, engine=EngineOptions(weights="int8"))
    config = Up(options, Console(quiet=True))._choose()
    assert config.weights == "int8"
    assert b"weight_quantisation" in engine_policy(config)


def test_a_draft_model_is_found_like_a_model(tmp_path):
    (tmp_path / "config.json").touch()
    (tmp_path / "tokenizer.json").touch()
    engine = EngineOptions(speculation="draft")
    options = UpOptions(20_000, 1, None, 60, engine=engine, draft=str(tmp_path))
    assert Up(options, Console(quiet=True))._choose().draft == tmp_path


def test_options_that_contradict_each_other_start_nothing():
    options = UpOptions(20_000, 1, None, 60, engine=EngineOptions(kv_truncation=True))
    with pytest.raises(NotReady, match="for one process on a GPU"):
        Up(options, Console(quiet=True))._choose()
