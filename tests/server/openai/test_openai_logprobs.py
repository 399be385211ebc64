"""logprobs and top_logprobs of a chat."""

from __future__ import annotations

import pytest
from openai.types.chat.chat_completion import ChoiceLogprobs

from .conftest import logprob_of


def test_entries_are_aligned_with_the_content(server):
    text = "The 😀 fox"
    choice = server.chat(text, logprobs=True, top_logprobs=4).choice
    entries = choice["logprobs"]["content"]
    ChoiceLogprobs.model_validate(choice["logprobs"])
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == text
    assert [entry["logprob"] for entry in entries] == [
        max(logprob_of(i), -9999.0) for i in server.ids(text)
    ]
    for entry in entries:
        values = [top["logprob"] for top in entry["top_logprobs"]]
        assert len(values) == 4
        assert values == sorted(values, reverse=True)
        assert values[-1] == -9999.0  # JSON has no infinity


def test_without_top_logprobs_there_are_no_alternatives(server):
    entries = server.chat("fox", logprobs=True).choice["logprobs"]["content"]
    assert all(entry["top_logprobs"] == [] for entry in entries)


def test_none_without_being_asked_for(server):
    assert server.chat("fox").choice["logprobs"] is None
    assert server.chat("fox", logprobs=False).choice["logprobs"] is None


@pytest.mark.parametrize("stop", [None, " lazy", "brown fox"])
def test_a_stream_carries_the_same_entries(server, stop):
    text = "The quick brown fox é jumps"
    whole = server.chat(text, logprobs=True, top_logprobs=2, stop=stop).choice
    answered = server.chat(text, logprobs=True, top_logprobs=2, stop=stop, stream=True)
    entries = []
    for chunk in answered.chunks:
        (choice,) = chunk["choices"]
        if choice["logprobs"]:
            shown = b"".join(bytes(entry["bytes"]) for entry in choice["logprobs"]["content"])
            assert shown.startswith(choice["delta"]["content"].encode())
            entries += choice["logprobs"]["content"]
    assert entries == whole["logprobs"]["content"]
    assert answered.text() == whole["message"]["content"]


def test_tokens_behind_a_stop_string_are_left_out(server):
    choice = server.chat("The fox", logprobs=True, stop=" fox").choice
    shown = b"".join(bytes(entry["bytes"]) for entry in choice["logprobs"]["content"])
    assert shown.decode() == "The"
