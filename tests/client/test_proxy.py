"""The proxy before real OpenAI clients, with a simulated world behind it."""

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import openai
import pytest
from opentelemetry import trace
from serving import serving
from simulator import ACCOUNT_KEY, World, complete, refuse

from attestation.verifier.policy import ClientPolicy
from client.connection import CallerConnection
from client.proxy import ProxyConfig, build_app
from wire import bhttp

NODE_CLIENTS = Path(__file__).parents[1] / "interop" / "node_modules"
NOBODY = "http://127.0.0.1:1"
MESSAGES = [{"role": "user", "content": "canary-prompt-4471 é"}]


@pytest.fixture
def world():
    return World()


@pytest.fixture
def proxy(world, tmp_path):
    with serving(world.app()) as url:
        config = ProxyConfig(
            trust=world.trust(),
            policy=ClientPolicy(frozenset({"simulated", "compute-unverified"})),
            relay_url=url,
            issuer_url=url,
            account_key=ACCOUNT_KEY,
            state=tmp_path,
        )
        with serving(build_app(config), http=CallerConnection) as proxy_url:
            yield proxy_url


@pytest.fixture
def sdk(proxy):
    with openai.OpenAI(base_url=f"{proxy}/v1", api_key="canary-key", max_retries=2) as client:
        yield client


def test_every_answer_has_one_id_of_its_own(proxy):
    body = {"model": "tiny", "messages": MESSAGES, "stream": True}
    ids = []
    for _ in range(3):
        url = f"{proxy}/v1/chat/completions"
        answer = httpx.post(url, json=body, trust_env=False, timeout=30)
        assert answer.status_code == 200
        ids += answer.headers.get_list("x-request-id")
    assert len(ids) == len(set(ids)) == 3


def test_the_sdk_reads_a_completion_and_a_stream(sdk):
    completion = sdk.chat.completions.create(model="tiny", messages=MESSAGES)
    assert completion.choices[0].message.content == "sotto"
    chunks = list(sdk.chat.completions.create(model="tiny", messages=MESSAGES, stream=True))
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == "sotto"
    assert chunks[-1].model_extra["attestation"]["verification"]


def test_every_answer_has_a_request_id_and_its_verdict_can_be_looked_up(proxy, sdk):
    completion = sdk.chat.completions.with_raw_response.create(model="tiny", messages=MESSAGES)
    found = httpx.get(f"{proxy}/verification", trust_env=False).json()
    assert found["requests"][0]["id"] == completion.headers["x-request-id"]
    assert found["requests"][0]["outcome"] == "pass"
    assert "canary" not in json.dumps(found)


def test_a_failed_receipt_is_an_error_and_never_a_completion(world, sdk):
    forged = complete(change=lambda _: {"model_digest": bytes(32)})
    world.nodes[0].answers += [forged, forged]
    with pytest.raises(openai.InternalServerError) as failed:
        sdk.chat.completions.create(model="tiny", messages=MESSAGES)
    assert failed.value.status_code == 502
    assert failed.value.code == "verification_failed"
    assert len(world.nodes[0].seen) == 1, "the SDK must not roll the dice again"
    with pytest.raises(openai.APIError, match="not to be believed"):
        list(sdk.chat.completions.create(model="tiny", messages=MESSAGES, stream=True))


def test_a_relay_that_fails_gets_no_second_try_from_the_sdk(world, sdk):
    world.relay_status = 503
    with pytest.raises(openai.InternalServerError) as failed:
        sdk.chat.completions.create(model="tiny", messages=MESSAGES)
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert failed.value.code == "relay_error"


def test_a_cut_stream_raises_in_the_sdk(world, sdk):
    world.nodes[0].answers.append(complete(cut=2))
    with pytest.raises(openai.APIError):
        list(sdk.chat.completions.create(model="tiny", messages=MESSAGES, stream=True))


def test_a_refused_token_is_not_told_as_a_wrong_api_key(world, proxy):
    world.nodes[0].answers.append(refuse(401, "token"))
    answer = httpx.post(
        f"{proxy}/v1/completions", json={"model": "tiny", "prompt": "x"}, trust_env=False
    )
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "token_refused"


def test_the_workers_own_errors_come_through_as_they_are(world, sdk):
    world.nodes[0].answers.append(refuse(400, "context_length_exceeded"))
    with pytest.raises(openai.BadRequestError) as failed:
        sdk.chat.completions.create(model="tiny", messages=MESSAGES)
    assert failed.value.code == "context_length_exceeded"


class Tracing(trace.TracerProvider):
    """What somebody else in the process, or the environment, has set up."""

    def __init__(self):
        self.asked = []

    def get_tracer(self, *names, **_):
        self.asked.append(names)
        return trace.NoOpTracer()


def test_telemetry_that_process_or_environment_ask_for_is_not_given(
    world, tmp_path, monkeypatch, caplog
):
    """FastAPI would send spans, and the text of failures, to an address from the environment."""
    tracing = Tracing()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", tracing)
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    policy = ClientPolicy(frozenset({"simulated"}))
    config = ProxyConfig(world.trust(), policy, NOBODY, NOBODY, ACCOUNT_KEY, tmp_path)
    with serving(build_app(config), http=CallerConnection) as url:
        assert httpx.get(f"{url}/metrics", trust_env=False).status_code == 200
    assert tracing.asked == []
    assert "telemetry" not in caplog.text


def test_models_and_the_page(proxy, sdk):
    assert [model.id for model in sdk.models.list()] == ["tiny"]
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("other")
    page = httpx.get(f"{proxy}/", trust_env=False)
    assert "SIMULATED" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("streamed", [False, True])
def test_three_clients_give_equal_inner_bytes(world, proxy, sdk, streamed):
    """openai for Python, openai for JavaScript and curl: the worker cannot tell them apart."""
    if not (NODE_CLIENTS / "openai").exists() or shutil.which("node") is None:
        pytest.skip("the npm clients are not installed: run `make interop`")
    request = {"model": "tiny", "messages": MESSAGES, "temperature": 1.0, "stream": streamed}
    extra = {"user": "alice", "metadata": {"who": "alice"}, "store": False}
    answer = sdk.chat.completions.create(**request, **extra)
    if streamed:
        list(answer)
    with_node(proxy, {**request, **extra})
    with_curl(proxy, {**extra, **request, "stop": None})
    raws = [without_date_and_token(opened.raw) for opened in world.nodes[0].seen]
    assert len(raws) == 3
    assert len(set(raws)) == 1
    for name in (b"stainless", b"canary-key", b"alice", b"user-agent", b"metadata"):
        assert name not in raws[0].lower()


def with_node(proxy, request):
    program = Path(__file__).parents[1] / "interop" / "chat.mjs"
    subprocess.run(
        ["node", program, f"{proxy}/v1", json.dumps(request)],
        check=True,
        timeout=30,
        capture_output=True,
    )


def with_curl(proxy, request):
    subprocess.run(
        [
            *("curl", "-sSfN", "--noproxy", "*", f"{proxy}/v1/chat/completions"),
            *("-H", "content-type: application/json", "-H", "authorization: Bearer canary-key"),
            *("-d", json.dumps(request)),
        ],
        check=True,
        timeout=30,
        capture_output=True,
    )


def without_date_and_token(raw):
    """Tokens and blinded messages are random, the minute may turn; nothing else may differ."""
    request = bhttp.decode_request(raw)
    changing = {b"authorization", b"sottovoce-blinded", b"date"}
    headers = tuple((name, b"" if name in changing else value) for name, value in request.headers)
    return repr(
        (request.method, request.path, request.authority, headers, request.content)
    ).encode()
