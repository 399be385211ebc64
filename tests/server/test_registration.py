"""Which platform a worker quotes on, and what it says when its own verifier refuses."""

import json
import os
from dataclasses import replace

import pytest

from attestation.attester.simulated import SimulatedAttester
from attestation.errors import AttesterFailed
from attestation.verifier.policy import ClientPolicy
from attestation.verifier.weakness import Weakness
from server import logs, registration
from server.config import OwnAppraisal
from server.errors import StartError
from tests.attestation.conftest import NOW, SimulatedNode
from tests.server.test_life import CONFIG

ORIGIN = "log.test.simulated"
NODE = SimulatedNode()
BUNDLE = NODE.bundle().encode()
ROOTS = {"simulated": frozenset({NODE.attester.root_fingerprint})}
ALL = ClientPolicy(frozenset(Weakness))


@pytest.fixture
def said():
    """The events so far, without their time."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    logs.log_to(write)

    def events():
        try:
            lines = os.read(read, 65536).splitlines()
        except BlockingIOError:
            return []
        found = [json.loads(line) for line in lines]
        return [{name: each[name] for name in each if name != "at"} for each in found]

    yield events
    logs.log_to(2)
    os.close(read)
    os.close(write)


def seeded(tmp_path, text):
    seed = tmp_path / "seed"
    seed.write_text(text)
    return replace(CONFIG, platform="simulated", platform_seed=seed)


def test_simulated_is_quoted_on_when_asked_for_by_name(tmp_path, said):
    made = registration.attester(seeded(tmp_path, "52" * 32 + "\n"))
    assert isinstance(made, SimulatedAttester)
    assert said() == [{"event": "PlatformFound", "platform": "simulated", "asked": True}]


@pytest.mark.parametrize("text", ["no hex", "52" * 31])
def test_a_malformed_seed_is_refused(tmp_path, text):
    with pytest.raises(StartError):
        registration.attester(seeded(tmp_path, text))


def test_simulated_without_its_seed_is_refused():
    with pytest.raises(StartError, match="seed"):
        registration.attester(replace(CONFIG, platform="simulated"))


@pytest.mark.parametrize(("platform", "asked"), [("auto", False), ("snp", True)])
def test_what_the_machine_is_found_to_be_is_told(monkeypatch, said, platform, asked):
    class Found:
        platform = "snp"

    asked_of = []
    monkeypatch.setattr(registration, "detect", lambda *a, **k: asked_of.append((a, k)) or Found())
    assert registration.attester(replace(CONFIG, platform=platform)).platform == "snp"
    assert asked_of == [((platform,), {"endorsement": None})]
    assert said() == [{"event": "PlatformFound", "platform": "snp", "asked": asked}]


def test_auto_never_falls_back_to_simulated_even_with_a_seed(monkeypatch, tmp_path, said):
    def nothing(_, endorsement):
        assert endorsement is None
        raise AttesterFailed("a plain machine")

    monkeypatch.setattr(registration, "detect", nothing)
    with pytest.raises(StartError):
        registration.attester(replace(seeded(tmp_path, "52" * 32), platform="auto"))
    assert said() == []


def own(policy=ALL, roots=ROOTS, origin=ORIGIN):
    return replace(CONFIG, appraisal=OwnAppraisal(policy, roots, origin))


def test_evidence_that_verifies_is_passed_without_a_word(said):
    registration.check_own_evidence(own(), BUNDLE, at=NOW)
    registration.check_own_evidence(CONFIG, b"not asked", at=NOW)
    assert said() == []


@pytest.mark.parametrize(
    ("options", "step", "code"),
    [
        ({"policy": ClientPolicy()}, "platform", "platform_refused"),
        ({"origin": "log.test"}, "log_origin", "log_origin_refused"),
        ({"roots": {}}, "quote_signature", "quote_root_unknown"),
    ],
)
def test_the_step_that_fails_is_told(said, options, step, code):
    with pytest.raises(StartError):
        registration.check_own_evidence(own(**options), BUNDLE, at=NOW)
    assert said() == [{"event": "EvidenceRefused", "step": step, "code": code}]
