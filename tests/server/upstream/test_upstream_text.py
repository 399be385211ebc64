"""Engines that know text only: the same prompt goes there, the same bytes come back."""

import pytest

from engine.types import EngineState, ErrorCode, SamplingParams
from server.openai.sampling import Defaults
from server.upstream_dialect import (
    DIALECTS,
    EventReader,
    Unsupported,
    UpstreamFailed,
    parse_event,
    request_fields,
)
from server.upstream_text import TextBridge


@pytest.fixture(scope="module")
def bridge(tokenizer):
    return TextBridge(tokenizer)


@pytest.mark.parametrize("text", ["Hello, who are you?", "naïve, 漢字 🙂", "a\n\n  b 1234"])
def test_a_prompt_is_sent_as_the_text_it_is(bridge, tokenizer, text):
    assert bridge.prompt(tokenizer.encode(text)) == text


def test_control_tokens_of_a_template_arrive_as_such(bridge, tokenizer):
    name = next(iter(tokenizer.special))
    ids = [tokenizer.special[name], *tokenizer.encode_literally("Hello")]
    assert tokenizer.encode(bridge.prompt(ids)) == ids


def test_a_text_that_spells_a_control_token_is_refused(bridge, tokenizer):
    """Sent as text it would end the user's turn."""
    name = next(iter(tokenizer.special))
    with pytest.raises(Unsupported):
        bridge.prompt(tokenizer.encode_literally(f"Hello {name}"))


def test_a_prompt_that_ends_inside_a_character_is_refused(bridge, tokenizer):
    with pytest.raises(Unsupported):
        bridge.prompt(tokenizer.encode("🙂")[:-1])


def test_text_that_comes_back_keeps_its_bytes(served, stand_in, tokenizer):
    engine = stand_in("openai")
    pieces = ["Hel", "lo", "  wör", "ld\n", "<|", "end|>", "漢"]
    engine.answer = [(piece, None) for piece in pieces]
    node = served(engine.url, "openai")
    slot = node.finished(tokenizer.encode("Hi"), max_new_tokens=60)
    ids = slot.ids(0, slot.released)
    assert b"".join(map(tokenizer.token_bytes, ids)).decode() == "".join(pieces)
    assert engine.asked["prompt"] == "Hi"
    assert set(engine.asked) == {
        "model", "prompt", "stream", "max_tokens", "temperature", "top_p", "seed",
    }  # fmt: skip
    assert engine.asked["seed"] < 2**31


def test_sglang_takes_ids_and_returns_text(served, stand_in, tokenizer):
    engine = stand_in("sglang")
    engine.answer = [("Hel", None), ("lo", None)]
    slot = served(engine.url, "sglang").finished([5, 6], top_k=3, max_new_tokens=20)
    assert b"".join(map(tokenizer.token_bytes, slot.ids(0, slot.sampled))) == b"Hello"
    assert engine.asked["prompt"] == [5, 6]
    assert engine.asked["top_k"] == 3
    assert engine.asked["cache_salt"]


@pytest.mark.parametrize(
    "wish",
    [
        {"top_k": 5},
        {"min_p": 0.1},
        {"repetition_penalty": 1.1},
        {"frequency_penalty": 0.1},
        {"presence_penalty": 0.1},
        {"logit_bias": ((1, 1.0),)},
        {"ignore_eos": True},
        {"min_tokens": 1},
        {"logprobs": 0},
    ],
)
def test_what_a_plain_server_may_pass_over_is_refused(served, stand_in, tokenizer, wish):
    slot = served(stand_in("openai").url, "openai").finished(tokenizer.encode("Hi"), **wish)
    assert (slot.state, slot.error) == (EngineState.FAILED, ErrorCode.UNSUPPORTED)


def test_the_models_own_defaults_are_left_to_the_server():
    params = SamplingParams(max_new_tokens=1, top_k=20, repetition_penalty=1.05)
    defaults = Defaults(top_k=20, repetition_penalty=1.05)
    fields = request_fields(DIALECTS["openai"], params, bytes(32), defaults)
    assert not {"top_k", "repetition_penalty"} & set(fields)


def test_events_end_at_lf_only_and_may_come_in_any_pieces():
    stream = 'data: {"a": "\u2028\x85"}\r\n\r\n: comment\nevent: x\ndata:[DONE]\n\n'.encode()
    whole = EventReader().feed(stream)
    assert whole == ['{"a": "\u2028\x85"}'.encode(), b"[DONE]"]
    reader = EventReader()
    assert [payload for byte in stream for payload in reader.feed(bytes([byte]))] == whole


def test_a_line_without_end():
    with pytest.raises(UpstreamFailed):
        EventReader().feed(b"x" * (EventReader.MAX_LINE + 1))


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"7", b'{"error": {"message": "secret"}}', b'{"choices": 1}',
     b'{"choices": [7]}', b'{"choices": [{"token_ids": ["x"]}]}', b"[" * 100_000],
    ids=lambda data: str(data[:20]),
)  # fmt: skip
def test_what_is_no_event_is_told_without_its_content(data):
    with pytest.raises(UpstreamFailed) as failed:
        parse_event(DIALECTS["vllm"], data)
    assert "secret" not in str(failed.value)
    assert failed.value.__suppress_context__
