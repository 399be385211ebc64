"""The ai SDK and the openai package for JavaScript, unmodified, get everything they ask for."""

import json
import subprocess

import pytest

from tests.interop.conftest import HERE, MISSING, installed
from tests.path.test_completions import MODEL, check_attestation

pytestmark = [
    pytest.mark.xdist_group("stack"),
    pytest.mark.skipif(not installed(), reason=MISSING),
]


@pytest.fixture(scope="module")
def found(stack):
    run = subprocess.run(
        ["node", HERE / "ai.mjs", stack.base_url, MODEL],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


@pytest.mark.parametrize("way", ["compatible", "chat", "responses"])
def test_the_ai_sdk(found, way):
    made = found[way]
    assert made["text"]
    assert made["streamed"]
    assert made["finish"] in {"stop", "length"}
    assert 0 < made["tokens"] <= 12
    assert 0 < made["streamedTokens"] <= 12
    for calls in (made["called"], made["calling"]):
        assert calls
        assert all(name == "get_weather" for name, _ in calls)
        assert all(arguments["city"] in {"Paris", "Rome"} for _, arguments in calls)
    assert made["object"]["city"] in {"Paris", "Rome"}


def test_the_openai_package_reads_responses(found):
    made = found["openai"]
    assert made["text"]
    assert made["streamed"]
    for attestation in made["attestations"]:
        check_attestation(attestation)
    assert made["refused"] == [404, "not_found", True]
