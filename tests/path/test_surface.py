"""The OpenAI surface through the whole path: one row for each thing a client may count on."""

import json
import subprocess

import httpx
import openai
import pytest

from sottovoce.local import WORKER
from tests.path.test_completions import MESSAGES, MODEL, check_attestation

pytestmark = pytest.mark.xdist_group("stack")

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
CANARY = "canary-meadowsweet-31337"


@pytest.fixture
def sdk(stack):
    return openai.OpenAI(base_url=stack.base_url, api_key="anything", max_retries=0)


def root(stack):
    return stack.base_url.removesuffix("/v1")


def ask(stack, path, method="POST", **body):
    content = json.dumps(body).encode() if body else None
    return httpx.request(method, root(stack) + path, content=content, timeout=60, trust_env=False)


def events(answer):
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    lines = answer.text.split("\n")
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def chat(**fields):
    return {"model": MODEL, "messages": MESSAGES, "max_tokens": 6, **fields}


def text(**fields):
    return {"model": MODEL, "prompt": "Hello", "max_tokens": 6, **fields}


def response(**fields):
    return {"model": MODEL, "input": "Hello", "max_output_tokens": 6, **fields}


OPTIONAL = (
    "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "metadata", "n",
    "parallel_tool_calls", "presence_penalty", "reasoning_effort", "response_format", "seed",
    "service_tier", "stop", "store", "stream", "stream_options", "temperature", "tool_choice",
    "tools", "top_logprobs", "top_p", "user", "verbosity", "modalities", "safety_identifier",
    "prompt_cache_key", "functions", "function_call", "audio", "prediction",
    "web_search_options", "moderation", "top_k", "min_p", "repetition_penalty", "ignore_eos",
    "min_tokens",
)  # fmt: skip

ACCEPTED = [
    (CHAT, chat(**dict.fromkeys(OPTIONAL))),
    (CHAT, chat(max_tokens=None, max_completion_tokens=3)),
    (CHAT, chat(messages=[{"role": "developer", "content": "Be brief."}, *MESSAGES])),
    (CHAT, chat(messages=[{"role": "user", "content": [{"type": "text", "text": "Hello"}]}])),
    (CHAT, chat(temperature=0, top_p=0.5, seed=2**62, frequency_penalty=-2, presence_penalty=2)),
    (CHAT, chat(logprobs=True, top_logprobs=20)),
    (CHAT, chat(n=2)),
    (CHAT, chat(logit_bias={"60": -100}, stop=["a", "é", "\n", "zz"])),
    (CHAT, chat(response_format={"type": "json_object"}, max_tokens=30)),
    (CHAT, chat(response_format={"type": "text"}, modalities=["text"])),
    (CHAT, chat(reasoning_effort="low", verbosity="low", service_tier="auto", user="x")),
    (CHAT, chat(metadata={"a": "b"}, store=True, safety_identifier="x", prompt_cache_key="y")),
    (CHAT, chat(top_k=5, min_p=0.1, repetition_penalty=1.1, ignore_eos=True, min_tokens=2)),
    (TEXT, text(echo=True, logprobs=3, max_tokens=0)),
    (TEXT, text(prompt=["Hello", "Hi"], n=2)),
    (TEXT, text(prompt=[60, 61, 62])),
    (TEXT, text(prompt=[[60, 61], [62]])),
    (TEXT, text(stop="a", seed=1, temperature=2)),
    (RESPONSES, response()),
    (RESPONSES, response(instructions="Be brief.", store=False, reasoning={"effort": "low"})),
    (RESPONSES, response(input=[{"role": "user", "content": "Hello"}], tools=[])),
]


@pytest.mark.parametrize(("path", "body"), ACCEPTED)
def test_accepted(stack, path, body):
    answer = ask(stack, path, **body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-request-id"].startswith("req_")
    found = answer.json()
    assert found["model"] == MODEL
    usage = found["usage"]
    assert usage["total_tokens"] == sum(
        usage.get(name, 0)
        for name in ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
    )
    check_attestation(found["attestation"])


@pytest.mark.parametrize(
    ("path", "body", "prefix"),
    [(CHAT, chat(), "chatcmpl-"), (TEXT, text(), "cmpl-"), (CHAT, chat(n=2), "chatcmpl-")],
)
@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_of_choices(stack, path, body, prefix, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    *payloads, done = events(ask(stack, path, **body, stream=True, **options))
    assert done == "[DONE]"
    chunks = [json.loads(payload) for payload in payloads]
    for member in ("id", "created", "model"):
        assert len({chunk[member] for chunk in chunks}) == 1
    assert chunks[0]["id"].startswith(prefix)
    for index in range(body.get("n", 1)):
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] in (["stop"], ["length"])
        assert mine[-1]["finish_reason"]
        if path == CHAT:
            assert mine[0]["delta"]["role"] == "assistant"
    if usage:
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["completion_tokens"] > 0
        assert all(chunk["usage"] is None for chunk in chunks[:-1])
    check_attestation(chunks[-1]["attestation"])


def test_a_stream_of_a_response(stack, sdk):
    answer = ask(stack, RESPONSES, **response(stream=True))
    payloads = [json.loads(payload) for payload in events(answer)]
    names = [line[7:] for line in answer.text.split("\n") if line.startswith("event: ")]
    assert names == [payload["type"] for payload in payloads]
    assert names[0] == "response.created"
    assert names[-1] in ("response.completed", "response.incomplete")
    check_attestation(payloads[-1]["response"]["attestation"])
    with sdk.responses.stream(model=MODEL, input="Hello") as stream:
        deltas = [e.delta for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert final.output_text == "".join(deltas)
    check_attestation(final.model_extra["attestation"])


def test_a_response_calls_a_function(sdk):
    tool = {
        "type": "function",
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}},
            "required": ["city"],
        },
    }
    made = sdk.responses.create(
        model=MODEL, input="Weather?", tools=[tool], tool_choice="required", max_output_tokens=60
    )
    [call] = [item for item in made.output if item.type == "function_call"][:1]
    assert json.loads(call.arguments)["city"] in {"Paris", "Rome"}


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_tokens_there_and_back(stack, prefix):
    told = ask(stack, f"{prefix}/tokenize", model=MODEL, prompt="Hello é").json()
    assert told["count"] == len(told["tokens"]) > 0
    check_attestation(told["attestation"])
    back = ask(stack, f"{prefix}/detokenize", model=MODEL, tokens=told["tokens"]).json()
    assert back["prompt"].endswith("Hello é")
    chat_told = ask(stack, f"{prefix}/tokenize", model=MODEL, messages=MESSAGES).json()
    usage = ask(stack, CHAT, **chat()).json()["usage"]
    assert chat_told["count"] == usage["prompt_tokens"]


def test_a_prompt_at_exactly_the_limit_of_the_context(stack):
    """The last token fits; one more is a 400, whoever asks: nothing waits for room for ever."""
    [model] = ask(stack, "/v1/models", "GET").json()["data"]
    limit = ask(stack, "/tokenize", model=model["id"], prompt="x").json()["max_model_len"]
    full, over = [60] * (limit - 1), [60] * limit
    answer = ask(stack, TEXT, model=MODEL, prompt=full, max_tokens=1)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["total_tokens"] == limit
    assert ask(stack, TEXT, model=MODEL, prompt=over, max_tokens=0).status_code == 200
    for body in ({"prompt": over}, {"prompt": full, "max_tokens": 2}):
        refused = ask(stack, TEXT, **{"model": MODEL, "max_tokens": 1, **body})
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "context_length_exceeded"


def test_seeds_repeat_an_answer(stack):
    asked = chat(seed=7, temperature=1.5, max_tokens=12)
    first, again = (ask(stack, CHAT, **asked).json()["choices"] for _ in range(2))
    assert first == again
    others = {
        json.dumps(ask(stack, CHAT, **{**asked, "seed": s}).json()["choices"]) for s in range(5)
    }
    assert len(others) > 1


REFUSED = [
    ("POST", CHAT, chat(model=CANARY), 404, "model_not_found"),
    ("POST", RESPONSES, response(model=CANARY), 404, "model_not_found"),
    ("POST", "/tokenize", {"model": CANARY, "prompt": "x"}, 404, "model_not_found"),
    ("POST", CHAT, chat(temperature=9), 400, "invalid_value"),
    ("POST", CHAT, chat(stream=True, temperature=9), 400, "invalid_value"),
    ("POST", CHAT, chat(tools=[]), 400, "invalid_value"),
    ("POST", CHAT, chat(max_tokens=10**9), 400, "context_length_exceeded"),
    ("POST", RESPONSES, response(max_output_tokens=10**9), 400, "context_length_exceeded"),
    ("POST", CHAT, chat(functions=[{"name": "x"}]), 400, "unsupported_parameter"),
    ("POST", RESPONSES, response(previous_response_id=CANARY), 400, "unsupported_parameter"),
    ("POST", RESPONSES, response(background=True), 400, "unsupported_value"),
    ("POST", TEXT, text(best_of=3), 400, "unsupported_parameter"),
    ("GET", CHAT, {}, 405, "method_not_allowed"),
    ("GET", f"{CHAT}/chatcmpl-1", {}, 404, "not_found"),
    ("DELETE", f"{CHAT}/chatcmpl-1", {}, 404, "not_found"),
    ("GET", f"{RESPONSES}/resp_1", {}, 404, "not_found"),
    ("POST", "/v1/conversations", {"x": 1}, 404, "not_found"),
    ("GET", "/v1/files", {}, 404, "not_found"),
    ("POST", "/v1/batches", {"x": 1}, 404, "not_found"),
    ("POST", "/v1/embeddings", {"model": MODEL, "input": "x"}, 404, "not_found"),
    ("POST", "/v1/audio/speech", {"x": 1}, 404, "not_found"),
    ("POST", "/v1/images/generations", {"x": 1}, 404, "not_found"),
    ("POST", "/v1/decisions", {"x": 1}, 404, "not_found"),
    ("POST", "/v1/moderations", {"x": 1}, 404, "not_found"),
    ("GET", f"/v1/models/{CANARY}", {}, 404, "model_not_found"),
    ("GET", "/nowhere", {}, 404, "not_found"),
]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: f"{row[0]} {row[1]} {row[4]}")
def test_refused(stack, row):
    method, path, body, status, code = row
    answer = ask(stack, path, method, **body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert CANARY not in answer.text
    if status == 404 and path.startswith("/v1/") and code == "not_found":
        assert len(error["message"]) > len("there is nothing at this path. "), "it says why"


RAW = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    b"GARBAGE\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: [::1]\r\ncontent-length: -1\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost:[::1]\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"GET /\x00 HTTP/1.1\r\nhost: [::1]\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
]


@pytest.mark.parametrize("raw", RAW)
def test_bytes_that_are_no_request_get_an_error_object(stack, raw):
    host, port = root(stack).removeprefix("http://").split(":")
    run = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "-m", "5", "--output", "-", f"telnet://{host}:{port}"],
        input=raw,
        capture_output=True,
        check=False,
        timeout=20,
    )
    head, _, content = run.stdout.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404")), run.stdout
    assert b"x-request-id" in head
    assert set(json.loads(content)["error"]) == {"message", "type", "param", "code"}


def test_health_and_metrics_tell_nothing_of_requests(stack):
    ask(stack, CHAT, **chat(messages=[{"role": "user", "content": CANARY}]))
    assert httpx.get(f"{root(stack)}/health", trust_env=False).json() == {"status": "ok"}
    proxy = httpx.get(f"{root(stack)}/metrics", trust_env=False)
    assert proxy.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'sottovoce_proxy_answers_total{status="200"}' in proxy.text
    worker = httpx.get(f"{stack.local.url(WORKER)}/metrics", trust_env=False)
    for text in (proxy.text, worker.text):
        assert CANARY not in text
        assert MODEL not in text
