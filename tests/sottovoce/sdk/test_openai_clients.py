"""The openai package's classes over the private path, without a proxy."""

import asyncio
import subprocess
import sys
from pathlib import Path

import openai
import pytest
from simulator import complete, refuse

import sottovoce
from attestation.verdict import Outcome
from sottovoce.sdk.attestation import Attestation

ROOT = Path(__file__).parents[3]
ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "canary-prompt-8812"}]}


@pytest.fixture
def client(session):
    with sottovoce.OpenAI(session=session) as client:
        yield client


def test_they_are_the_package_s_own_classes():
    assert issubclass(sottovoce.OpenAI, openai.OpenAI)
    assert issubclass(sottovoce.AsyncOpenAI, openai.AsyncOpenAI)


def test_a_completion_comes_with_its_attestation_typed(client):
    completion = client.chat.completions.create(**ASKED)
    assert completion.choices[0].message.content == "sotto"
    assert isinstance(completion.attestation, Attestation)
    assert completion.attestation.simulated
    assert completion.attestation.outcome is Outcome.PASS
    assert sottovoce.attestation_of(completion) is completion.attestation
    assert completion.to_dict()["attestation"]["receipt"] == completion.attestation.receipt


def test_a_stream_carries_it_on_its_last_chunk(client):
    chunks = list(client.chat.completions.create(**ASKED, stream=True))
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == "sotto"
    *before, last = map(sottovoce.attestation_of, chunks)
    assert not any(before)
    assert last.verification


def test_asyncio_asks_the_same_way(session):
    async def ask():
        async with sottovoce.AsyncOpenAI(session=session) as client:
            completion = await client.chat.completions.create(**ASKED)
            stream = await client.chat.completions.create(**ASKED, stream=True)
            return completion, [chunk async for chunk in stream]

    for _ in range(2):  # the session outlives an event loop
        completion, chunks = asyncio.run(ask())
        assert completion.attestation.outcome is Outcome.PASS
        assert chunks[-1].attestation.verification


def test_many_threads_share_one_session(client):
    async def all_at_once():
        ask = client.chat.completions.create
        return await asyncio.gather(*(asyncio.to_thread(ask, **ASKED) for _ in range(4)))

    completions = asyncio.run(all_at_once())
    assert len({completion.attestation.salts.request for completion in completions}) == 4


def test_a_forged_receipt_is_an_error_and_never_a_completion(world, client):
    forged = complete(change=lambda _: {"model_digest": bytes(32)})
    world.nodes[0].answers += [forged, forged]
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(**ASKED)
    assert failed.value.code == "verification_failed"
    with pytest.raises(openai.APIError, match="not to be believed"):
        list(client.chat.completions.create(**ASKED, stream=True))


def test_a_refusal_is_told_and_not_asked_again(world, client):
    world.nodes[0].answers.append(refuse(503, "payment_unavailable"))
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**ASKED)
    assert len(world.nodes[0].seen) == 1


def test_models_are_listed_and_cost_no_token(world, client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert not world.nodes[0].seen


def test_a_copy_with_other_options_shares_the_path(client):
    hasty = client.with_options(timeout=60.0)
    assert isinstance(hasty, sottovoce.OpenAI)
    assert hasty.chat.completions.create(**ASKED).attestation


def test_an_environment_made_for_another_service_changes_nothing(session, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key-of-another-service")
    with sottovoce.OpenAI(session=session) as client:
        assert client.api_key == "not-needed"
        assert client.chat.completions.create(**ASKED).attestation


def test_a_client_of_its_own_profile_ends_its_session(profile):
    with sottovoce.OpenAI(profile=profile) as client:
        assert client.chat.completions.create(**ASKED).attestation
    with sottovoce.OpenAI(profile=profile) as again:
        assert again.models.list().data


@pytest.mark.parametrize("module", ["openai", "httpx2", "torch", "fastapi"])
def test_importing_the_package_imports_no_other(module):
    program = f"import sys, sottovoce; sys.exit({module!r} in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False)
    assert run.returncode == 0


def test_without_the_openai_package_the_way_out_is_said():
    program = (
        "import sys; sys.modules['openai'] = None\n"
        "import sottovoce\n"
        "try: sottovoce.OpenAI\n"
        "except ImportError as error: print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "pip install openai" in run.stdout


def test_the_public_names_are_there_and_no_others():
    for name in ("OpenAI", "AsyncOpenAI", "Session", "Attestation", "attestation_of"):
        assert getattr(sottovoce, name).__name__ == name
        assert name in dir(sottovoce)
    with pytest.raises(AttributeError, match="no attribute 'Client'"):
        sottovoce.Client  # noqa: B018
