"""An unmodified OpenAI client gets a completion that travelled the whole path, with its
evidence."""

import base64
import json
import subprocess

import httpx
import openai
import pytest

MODEL = "tinychat"
MESSAGES = [{"role": "user", "content": "What is sottovoce?"}]

pytestmark = pytest.mark.xdist_group("stack")

PASSING = {"pass"}


def steps_of(attestation):
    return {step["step"]: step for step in attestation["verification"]}


def check_attestation(attestation):
    """The member `attestation` is whole, and every step it lists came to an outcome with a
    reason."""
    assert set(attestation) == {"receipt", "salts", "quote", "node", "platform", "verification"}
    assert base64.b64decode(attestation["receipt"], validate=True)
    assert base64.b64decode(attestation["quote"], validate=True)
    assert len(bytes.fromhex(attestation["node"])) == 32
    assert attestation["platform"] == "simulated"
    steps = attestation["verification"]
    assert len(steps) >= 12
    assert all(step["reason"] for step in steps)
    assert {step["outcome"] for step in steps} == PASSING, steps
    assert any("SIMULATED" in step["reason"] for step in steps)


@pytest.fixture
def sdk(stack):
    return openai.OpenAI(base_url=stack.base_url, api_key="anything", max_retries=0)


def test_the_python_sdk_gets_a_completion_with_evidence(sdk):
    completion = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=24)
    assert completion.choices[0].message.content
    assert completion.usage.completion_tokens <= 24
    check_attestation(completion.model_extra["attestation"])


def test_the_python_sdk_streams_with_evidence_in_the_last_chunk(sdk):
    stream = sdk.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    *before, last = chunks
    assert last.usage.prompt_tokens > 0
    check_attestation(last.model_extra["attestation"])
    assert all("attestation" not in (chunk.model_extra or {}) for chunk in before)


def test_a_stream_without_usage_carries_the_evidence_too(sdk):
    chunks = list(
        sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8, stream=True)
    )
    check_attestation(chunks[-1].model_extra["attestation"])
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}


def test_legacy_completions_travel_the_same_way(sdk):
    completion = sdk.completions.create(model=MODEL, prompt="Hello", max_tokens=8, seed=5)
    again = sdk.completions.create(model=MODEL, prompt="Hello", max_tokens=8, seed=5)
    assert completion.choices[0].text == again.choices[0].text
    check_attestation(completion.model_extra["attestation"])


def test_curl_gets_a_completion_and_a_stream(stack):
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8}
    plain = json.loads(curl(stack, body))
    check_attestation(plain["attestation"])
    streamed = curl(stack, {**body, "stream": True})
    events = [line[6:] for line in streamed.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    check_attestation(json.loads(events[-2])["attestation"])


def curl(stack, body):
    run = subprocess.run(
        [
            *("curl", "-sSN", "--noproxy", "*", f"{stack.base_url}/chat/completions"),
            *("-H", "content-type: application/json", "-d", json.dumps(body)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return run.stdout


def test_a_json_schema_binds_the_answer(sdk):
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "number": {"enum": [1, 2]}},
        "required": ["city", "number"],
        "additionalProperties": False,
    }
    completion = sdk.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        max_tokens=40,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        },
    )
    answer = json.loads(completion.choices[0].message.content)
    assert answer["city"] in {"Paris", "Rome"}
    assert answer["number"] in {1, 2}
    check_attestation(completion.model_extra["attestation"])


def test_a_forced_tool_is_called(sdk):
    function = {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    }
    completion = sdk.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the weather in Rome?"}],
        tools=[{"type": "function", "function": function}],
        tool_choice="required",
        max_tokens=60,
    )
    assert completion.choices[0].finish_reason == "tool_calls"
    [call] = completion.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in {"Paris", "Rome"}


def test_models_come_from_the_node_list(sdk):
    assert [model.id for model in sdk.models.list()] == [MODEL]
    assert sdk.models.retrieve(MODEL).owned_by == "sottovoce"


def test_the_verdicts_can_be_read_by_a_person_and_a_program(stack, sdk):
    sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=4)
    root = stack.base_url.removesuffix("/v1")
    verification = httpx.get(f"{root}/verification", trust_env=False).json()
    assert verification["simulated"] is True
    assert verification["requests"][0]["outcome"] == "pass"
    assert len(verification["nodes"]) == 2
    page = httpx.get(f"{root}/", trust_env=False)
    assert "SIMULATED" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_what_a_person_sees_at_the_start(stack):
    printed = stack.printed.getvalue()
    for expected in ("starting", "publishing", "first prompt"):
        assert expected in printed
