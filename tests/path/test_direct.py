"""The direct mode over the real parties: curl and the OpenAI SDK, with the key from the log."""

import base64
import json
import re
import shlex
import subprocess

import httpx
import httpx2
import openai
import pytest

from client.direct import WrongPin, pinned_context
from sottovoce.local import DIRECT, PROXY, WORKER

MODEL = "tinychat"


def tls_key(stack):
    shown = httpx.get(f"{stack.local.url(PROXY)}/verification", trust_env=False).json()
    health = httpx.get(f"{stack.local.url(WORKER)}/health", trust_env=False).json()
    pins = [node["direct_pin"] for node in shown["nodes"] if node["node"] in health["nodes"]]
    return base64.b64decode(pins[-1].removeprefix("sha256//"))


@pytest.fixture
def sdk(stack):
    port = stack.local.port(DIRECT)
    context = pinned_context("127.0.0.1", port, tls_key(stack))
    with openai.OpenAI(
        base_url=f"https://127.0.0.1:{port}/v1",
        api_key=stack.up._direct_key,
        http_client=httpx2.Client(verify=context, trust_env=False),
        max_retries=0,
    ) as client:
        yield client


def test_the_printed_curl_command_gets_an_attested_stream(stack):
    stack.up._greet()
    lines = [line for line in stack.printed.getvalue().splitlines() if "direct: curl" in line]
    words = shlex.split(lines[-1].partition("direct: ")[2])
    done = subprocess.run([*words, "-sS", "--noproxy", "*"], capture_output=True, check=True)

    payloads = re.findall(rb"^data: (.*)$", done.stdout, re.MULTILINE)
    assert payloads[-1] == b"[DONE]"
    attestation = json.loads(payloads[-2])["attestation"]
    assert attestation["quote"]
    assert {"T": "fail"}.items() <= {
        step["step"]: step["outcome"] for step in attestation["verification"]
    }.items()


def test_the_openai_sdk_works_with_a_pinned_key(sdk):
    messages = [{"role": "user", "content": "Who can read my prompt?"}]
    answer = sdk.chat.completions.create(model=MODEL, messages=messages, max_tokens=8, user="me")
    assert answer.choices[0].message.content
    assert answer.attestation["platform"] == "simulated"

    chunks = list(
        sdk.chat.completions.create(model=MODEL, messages=messages, max_tokens=8, stream=True)
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert [model.id for model in sdk.models.list()] == [MODEL]


def test_the_sdk_gets_openais_errors(sdk):
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("another")
    with pytest.raises(openai.BadRequestError):
        sdk.completions.create(model=MODEL, prompt="x", max_tokens=-1)
    with pytest.raises(openai.AuthenticationError):
        sdk.with_options(api_key="sk-wrong").models.list()


def test_another_key_is_not_trusted(stack):
    with pytest.raises(WrongPin):
        pinned_context("127.0.0.1", stack.local.port(DIRECT), bytes(32))
    other = pinned_context("127.0.0.1", stack.local.port(DIRECT), tls_key(stack))
    with (
        httpx2.Client(verify=other, trust_env=False) as client,
        pytest.raises(httpx2.ConnectError),
    ):
        client.get(f"https://127.0.0.1:{stack.local.port(DIRECT) + 1}/health")
