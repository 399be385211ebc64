"""Tokens of a prompt or a chat, and the text of tokens."""

from __future__ import annotations

import json

import pytest

from .conftest import CANARY, MODEL
from .test_openai_errors import refused

USER = [{"role": "user", "content": "Hi"}]


def ask(server, path, **body):
    data = json.dumps({"model": MODEL, **body}).encode()
    plan = server.application.prepare(b"POST", path, data)
    _, answer = plan.run(server.engine(), lambda: 1, 0)
    assert answer.payload.endswith(b',"attestation":null}')
    assert (plan.tokens_needed, plan.streamed) == (1, False)
    return json.loads(answer.payload)


def test_a_prompt(server):
    answer = ask(server, b"/tokenize", prompt="The é fox", return_token_strs=True)
    assert answer["tokens"] == server.ids("The é fox")
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["max_model_len"] == 2048
    assert ask(server, b"/detokenize", tokens=answer["tokens"]) == {
        "prompt": "The é fox",
        "attestation": None,
    }


def test_a_chat_is_counted_as_the_model_reads_it(server):
    answer = ask(server, b"/tokenize", messages=USER)
    assert answer["tokens"] == server.chat("x", messages=USER).engine.prompts[0]
    assert answer["token_strs"] is None


def test_an_empty_prompt(server):
    assert ask(server, b"/tokenize", prompt="", add_special_tokens=False)["tokens"] == []
    assert ask(server, b"/detokenize", tokens=[])["prompt"] == ""


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "x", "messages": USER}, "prompt"),
        ("/tokenize", {"prompt": 1}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": CANARY}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": [10**9]}, "tokens"),
        ("/detokenize", {"tokens": [True]}, "tokens[0]"),
    ],
)
def test_refused(server, path, body, param):
    error = refused(server, {"model": MODEL, **body}, path)
    assert (error.status, error.param) == (400, param)
