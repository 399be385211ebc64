"""The OpenAI SDK as the judge: its types, its streams, its helpers, its exceptions."""

from __future__ import annotations

import json
import subprocess
import sys

import openai
import pydantic
import pytest

from .conftest import MODEL
from .test_openai_formats import CALL, WEATHER

USER = [{"role": "user", "content": "Hi"}]


def test_chat_completion(sdk):
    sdk.engine("The quick brown fox")
    completion = sdk.client.chat.completions.create(model=MODEL, messages=USER)
    assert completion.choices[0].message.content == "The quick brown fox"
    assert completion.usage.total_tokens > 0
    assert completion.system_fingerprint.startswith("fp_")
    assert completion.model_extra == {"attestation": None}


def test_chat_stream(sdk):
    sdk.engine("The 😀 fox")
    stream = sdk.client.chat.completions.create(
        model=MODEL, messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "The 😀 fox"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert chunks[-1].model_extra == {"attestation": None}


def test_stream_helper_accumulates_text_and_logprobs(sdk):
    sdk.engine("The quick brown fox", "two dogs")
    with sdk.client.chat.completions.stream(
        model=MODEL, messages=USER, n=2, logprobs=True, top_logprobs=2
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done", "logprobs.content.done"} <= kinds
    assert [c.message.content for c in final.choices] == ["The quick brown fox", "two dogs"]
    tokens = final.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == "The quick brown fox"


def test_stream_helper_accumulates_tool_calls(sdk):
    sdk.engine("So. " + CALL + "\n" + CALL.replace("Paris", "Rome"))
    strict = {**WEATHER["function"], "strict": True}
    with sdk.client.chat.completions.stream(
        model=MODEL, messages=USER, tools=[{"type": "function", "function": strict}]
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.done") == 2
    (choice,) = final.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "So. "
    cities = [call.function.parsed_arguments["city"] for call in choice.message.tool_calls]
    assert cities == ["Paris", "Rome"]


class Person(pydantic.BaseModel):
    name: str
    age: int
    friends: list[str] = []


@pytest.mark.parametrize("streamed", [False, True])
def test_parse_makes_an_object(sdk, streamed):
    sdk.engine('{"name": "Al", "age": 3, "friends": []}')
    chat = sdk.client.chat.completions
    if streamed:
        with chat.stream(model=MODEL, messages=USER, response_format=Person) as stream:
            parsed = stream.get_final_completion()
    else:
        parsed = chat.parse(model=MODEL, messages=USER, response_format=Person)
    assert parsed.choices[0].message.parsed == Person(name="Al", age=3)


def test_length_is_reported_as_such_by_the_helpers(sdk):
    sdk.engine('{"name": "Al", "age": 3, "friends": []}')
    with pytest.raises(openai.LengthFinishReasonError):
        sdk.client.chat.completions.parse(
            model=MODEL, messages=USER, response_format=Person, max_tokens=3
        )


def test_completions(sdk):
    sdk.engine(" upon a time", " more")
    completion = sdk.client.completions.create(
        model=MODEL, prompt="Once", n=2, echo=True, logprobs=2
    )
    assert [choice.text for choice in completion.choices] == ["Once upon a time", "Once more"]
    assert completion.choices[0].logprobs.tokens[0] == "O"
    sdk.engine(" upon")
    stream = sdk.client.completions.create(model=MODEL, prompt="Once", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == " upon"


def test_models(sdk):
    (model,) = sdk.client.models.list()
    assert model.id == MODEL
    assert sdk.client.models.retrieve(MODEL).owned_by == "sottovoce"


def test_errors_become_the_exceptions_clients_catch(sdk):
    create = sdk.client.chat.completions.create
    with pytest.raises(openai.BadRequestError) as bad:
        create(model=MODEL, messages=USER, temperature=9)
    assert bad.value.code == "invalid_value"
    assert bad.value.param == "temperature"
    assert bad.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError):
        create(model="other", messages=USER)
    sdk.engine("x", fail_at=0)
    with pytest.raises(openai.InternalServerError):
        create(model=MODEL, messages=USER)


def test_the_application_imports_no_torch_and_starts_no_thread(folder, vocab_size):
    """What a zygote needs: one thread, nothing heavy, and tables that survive the fork."""
    program = """
import json, os, sys
from pathlib import Path
from server.openai.application import Application, ServedModel
model = ServedModel("m", Path(sys.argv[1]), 512, int(sys.argv[2]), 0, 512)
application = Application(model)
heavy = {"torch", "numpy", "transformers", "fastapi", "uvicorn"} & sys.modules.keys()
threads = len(os.listdir("/proc/self/task"))
child = os.fork()
if child == 0:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}],
            "response_format": {"type": "json_object"}}
    plan = application.prepare(b"POST", b"/v1/chat/completions", json.dumps(body).encode())
    os._exit(plan.tokens_needed)
_, status = os.waitpid(child, 0)
print(json.dumps([sorted(heavy), threads, os.waitstatus_to_exitcode(status)]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(folder), str(vocab_size)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(ran.stdout) == [[], 1, 1]
