"""POST /v1/completions: prompts in every form, echo, log-probabilities."""

from __future__ import annotations

import json

import pytest
from openai.types import Completion

from .conftest import MODEL, logprob_of


def test_whole_answer_is_a_completion(server):
    answered = server.complete(" upon a time")
    Completion.model_validate(answered.body)
    assert answered.body["id"].startswith("cmpl-")
    assert answered.body["object"] == "text_completion"
    assert answered.body["model"] == MODEL
    assert answered.choice == {
        "index": 0,
        "text": " upon a time",
        "logprobs": None,
        "finish_reason": "stop",
    }


def test_streamed_pieces_make_the_same_text(server):
    chunks = server.complete(" upon a time", stream=True).chunks
    for chunk in chunks:
        assert chunk["object"] == "text_completion"
        if chunk["choices"][0]["finish_reason"]:
            Completion.model_validate(chunk)
    assert "".join(c["choices"][0]["text"] for c in chunks) == " upon a time"
    assert [c["choices"][0]["finish_reason"] for c in chunks][-1] == "stop"


def test_sixteen_tokens_are_the_default(server):
    assert server.complete("a").engine.requests[0].params.max_new_tokens == 16


def test_prompt_forms(server):
    ids = server.ids("The fox")
    assert server.complete("x", prompt="The fox").engine.prompts == [ids]
    assert server.complete("x", prompt=ids).engine.prompts == [ids]
    two = server.complete("x", prompt=["The fox", "The dog"])
    assert two.engine.prompts == [ids, server.ids("The dog")]
    assert two.body["usage"]["prompt_tokens"] == len(ids) + len(server.ids("The dog"))
    assert server.complete("x", prompt=[ids, ids[:1]]).engine.prompts == [ids, ids[:1]]


def test_an_empty_prompt_begins_with_the_start_token(server):
    start = server.tokenizer.token_to_id("<|bos|>")
    assert server.complete("x", prompt="").engine.prompts == [[start]]


def test_choices_of_several_prompts_are_numbered_prompt_by_prompt(server):
    answered = server.complete("a", "b", "c", "d", prompt=["P", "Q"], n=2, seed=1)
    assert [c["text"] for c in answered.body["choices"]] == ["a", "b", "c", "d"]
    assert [c["index"] for c in answered.body["choices"]] == [0, 1, 2, 3]
    requests = answered.engine.requests
    assert [(r.group, r.index_in_group) for r in requests] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert requests[0].params.seed == requests[2].params.seed != requests[1].params.seed


def test_echo_repeats_the_prompt_first(server):
    assert server.complete(" upon", echo=True).choice["text"] == "Once upon"
    ids = server.ids("Once")
    assert server.complete(" upon", echo=True, prompt=ids).choice["text"] == "Once upon"
    chunks = server.complete(" upon", echo=True, stream=True, n=2).chunks
    firsts = {}
    for chunk in chunks:
        firsts.setdefault(chunk["choices"][0]["index"], chunk["choices"][0]["text"])
    assert firsts == {0: "Once", 1: "Once"}


def test_no_token_may_be_asked_for(server):
    answered = server.complete("never", max_tokens=0, echo=True)
    assert answered.choice["text"] == "Once"
    assert answered.choice["finish_reason"] == "length"
    assert answered.body["usage"]["completion_tokens"] == 0


def test_scoring_a_prompt_gives_a_logprob_for_each_token_but_the_first(server):
    ids = server.ids("The quick fox")
    answered = server.complete(prompt="The quick fox", max_tokens=0, echo=True, logprobs=2)
    lists = answered.choice["logprobs"]
    assert "".join(lists["tokens"]) == "The quick fox"
    assert lists["token_logprobs"] == [None, *map(logprob_of, ids[1:])]
    assert lists["top_logprobs"][0] is None
    assert len({len(values) for values in lists.values()}) == 1
    for offset, token in zip(lists["text_offset"], lists["tokens"], strict=True):
        assert "The quick fox"[offset:].startswith(token)


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_are_aligned_with_the_text(server, stream):
    answered = server.complete(" fox 😀 dog", echo=True, logprobs=3, stream=stream)
    if stream:
        choices = [chunk["choices"][0] for chunk in answered.chunks]
        text = "".join(choice["text"] for choice in choices)
        lists = {
            name: [value for choice in choices for value in choice["logprobs"][name]]
            for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        }
    else:
        text, lists = answered.choice["text"], answered.choice["logprobs"]
    ids = [*server.ids("Once"), *server.ids(" fox 😀 dog")]
    assert text == "Once fox 😀 dog"
    assert lists["token_logprobs"][1:] == [max(logprob_of(i), -9999.0) for i in ids[1:]]
    assert len(lists["tokens"]) == len(ids)
    for token, offset in zip(lists["tokens"], lists["text_offset"], strict=True):
        assert token.startswith("bytes:\\x") or text[offset:].startswith(token)
    assert lists["text_offset"] == sorted(lists["text_offset"])
    for top in lists["top_logprobs"][1:]:
        assert 3 <= len(top) <= 4


def test_logprobs_zero_names_the_chosen_token_alone(server):
    lists = server.complete("fox", logprobs=0).choice["logprobs"]
    for token, value, top in zip(
        lists["tokens"], lists["token_logprobs"], lists["top_logprobs"], strict=True
    ):
        assert top == {token: value}


def test_stop_ends_the_text_and_keeps_the_echo(server):
    answered = server.complete(" upon a time", stop=["Once", " a"], echo=True)
    assert answered.choice["text"] == "Once upon"
    assert answered.choice["finish_reason"] == "stop"


def test_usage_chunk_ends_the_stream(server):
    chunks = server.complete("a", stream=True, stream_options={"include_usage": True}).chunks
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("suffix", "x", "unsupported_parameter"),
        ("best_of", 2, "unsupported_parameter"),
        ("logprobs", 6, "invalid_value"),
        ("logprobs", True, "invalid_type"),
        ("echo", "yes", "invalid_type"),
        ("prompt", None, "invalid_type"),
        ("prompt", [], "invalid_value"),
        ("prompt", [[]], "invalid_value"),
        ("prompt", [1, "CANARY"], "invalid_type"),
        ("prompt", ["CANARY", 1], "invalid_type"),
        ("prompt", [-1], "invalid_value"),
        ("prompt", [10**9], "invalid_value"),
        ("max_tokens", -1, "invalid_value"),
        ("min_tokens", 17, "invalid_value"),
        ("n", 129, "invalid_value"),
    ],
)
def test_refused_fields(server, field, value, code):
    error = server.refuse_completion(**{field: value})
    assert (error.status, error.code) == (400, code)
    assert (error.param or "").split("[")[0] == field
    assert "CANARY" not in json.dumps(error.message)


def test_at_most_128_choices_in_all(server):
    error = server.refuse_completion(prompt=["a"] * 65, n=2, max_tokens=1)
    assert (error.code, error.param) == ("invalid_value", "n")
