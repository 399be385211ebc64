from __future__ import annotations

import itertools

import pytest

from engine.tinychat.chat import segments
from engine.tinychat.corpus import dialogues
from engine.tinychat.dialogue import Dialogue, Message, Tool, ToolCall
from engine.tinychat.export import stock_tokenizer

WEATHER = Tool("get_weather", "Get the weather of a city.", {"city": "string", "days": "integer"})


@pytest.fixture(scope="module")
def stock(small_tokenizer):
    return stock_tokenizer(small_tokenizer)


def as_openai(dialogue: Dialogue) -> list[dict]:
    messages = []
    for message in dialogue.messages:
        written: dict = {"role": message.role, "content": message.content}
        if message.tool_calls:
            written["tool_calls"] = [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in message.tool_calls
            ]
        messages.append(written)
    return messages


def templated(stock, dialogue: Dialogue, **options) -> str:
    tools = [tool.schema() for tool in dialogue.tools] or None
    return stock.apply_chat_template(as_openai(dialogue), tools=tools, tokenize=False, **options)


def joined(dialogue: Dialogue) -> str:
    return "".join(segment.text for segment in segments(dialogue))


def test_the_template_writes_what_training_reads(stock):
    for dialogue in itertools.islice(dialogues(21), 500):
        assert templated(stock, dialogue) == joined(dialogue)


def test_the_ids_of_the_template_are_the_ids_of_training(stock, small_tokenizer):
    for dialogue in itertools.islice(dialogues(22), 100):
        pieces = [segment.text for segment in segments(dialogue)]
        apart = [i for e in small_tokenizer.encode_batch(pieces) for i in e.ids]
        text = templated(stock, dialogue)
        assert stock(text, add_special_tokens=False).input_ids == apart


def test_a_system_prompt_and_two_turns(stock):
    messages = (
        Message("system", "Be kind."),
        Message("user", "Hello"),
        Message("assistant", "Hi."),
        Message("user", "1+1"),
    )
    text = templated(stock, Dialogue("", messages, ()), add_generation_prompt=True)
    assert text == (
        "<|begin|><|system|>Be kind.<|end|><|user|>Hello<|end|><|assistant|>Hi.<|end|>"
        "<|user|>1+1<|end|><|assistant|>"
    )


def test_tools_stand_in_the_system_message(stock):
    dialogue = Dialogue("", (Message("system", "Hm."), Message("user", "?")), (), (WEATHER,))
    assert templated(stock, dialogue) == (
        "<|begin|><|system|>Hm.\n\nTools:\nget_weather(city: string, days: integer): "
        "Get the weather of a city.<|end|><|user|>?<|end|>"
    )


def test_tools_without_a_system_message_get_one(stock):
    dialogue = Dialogue("", (Message("user", "?"),), (), (WEATHER,))
    assert templated(stock, dialogue).startswith("<|begin|><|system|>Tools:\nget_weather(")


def test_a_call_and_its_result(stock):
    call = ToolCall("get_weather", {"city": "Zürich", "days": 2})
    messages = (
        Message("user", "?"),
        Message("assistant", "", (call,)),
        Message("tool", "rain"),
        Message("assistant", "Rain."),
    )
    text = templated(stock, Dialogue("", messages, (), (WEATHER,)))
    assert text.partition("<|end|>")[2] == (
        '<|user|>?<|end|><|assistant|><tool_call>{"name": "get_weather", "arguments": '
        '{"city": "Zürich", "days": 2}}</tool_call><|end|><|tool|>rain<|end|>'
        "<|assistant|>Rain.<|end|>"
    )


def test_arguments_may_be_the_text_that_openai_sends(stock):
    function = {"name": "f", "arguments": '{"a": 1}'}
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": function}]},
    ]
    text = stock.apply_chat_template(messages, tokenize=False)
    assert '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>' in text
    assert "None" not in text


def test_developer_messages_are_system_messages(stock):
    messages = [{"role": "developer", "content": "X"}, {"role": "user", "content": "Y"}]
    text = stock.apply_chat_template(messages, tokenize=False)
    assert text == "<|begin|><|system|>X<|end|><|user|>Y<|end|>"


def test_text_parts_are_joined(stock):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    text = stock.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
    assert text == "<|begin|><|user|>ab<|end|>"


def test_only_answers_are_trained():
    for dialogue in itertools.islice(dialogues(23), 200):
        pieces = segments(dialogue)
        for before, piece in itertools.pairwise(pieces):
            assert piece.trained == (before.text == "<|assistant|>")
