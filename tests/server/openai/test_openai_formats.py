"""response_format and tools: whatever the model would rather write, the grammar holds."""

from __future__ import annotations

import json
import random

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from server.openai.tool_format import COMPACT, HERMES, LLAMA, MISTRAL, format_of

from .conftest import TEMPLATE, Misuse, allowed, train_tokenizer, write_folder

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
CLOCK_CALL = '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def schema_format(schema, strict=True):
    return {
        "type": "json_schema",
        "json_schema": {"name": "it", "schema": schema, "strict": strict},
    }


class Dice:
    """A model that says anything at all that it is allowed to say; it ends when it may."""

    def __init__(self, seed: int, eos: int, vocab: int):
        self._random = random.Random(seed)
        self._eos, self._vocab = eos, vocab

    def __call__(self, _index: int, position: int, mask: bytes | None) -> int:
        assert mask is not None, "this answer was to be constrained"
        if allowed(mask, self._eos) and position > 40:
            return self._eos
        ids = [i for i in range(self._vocab) if allowed(mask, i)]
        assert ids
        return self._random.choice(ids)


def rolled(server, seed, **body):
    dice = Dice(seed, server.end, server.geometry.vocab_size)
    return server.chat(engine_options={"choose": dice}, max_tokens=400, **body)


# response_format


@pytest.mark.parametrize("seed", range(5))
def test_json_schema_answers_follow_the_schema(server, seed):
    choice = rolled(server, seed, response_format=schema_format(PERSON)).choice
    assert choice["finish_reason"] == "stop"
    person = json.loads(choice["message"]["content"])
    assert list(person) == ["name", "age", "tags"]
    assert isinstance(person["name"], str)
    assert len(person["name"]) <= 8
    assert 0 <= person["age"] <= 120
    assert set(person["tags"]) <= {"a", "b"}
    assert len(person["tags"]) <= 3


@pytest.mark.parametrize("lag", [0, 3])
def test_json_object_answers_are_objects(server, lag):
    text = '{"a": [1, "x"], "b":null}'
    answered = server.chat(
        text, response_format={"type": "json_object"}, engine_options={"lag": lag}
    )
    assert json.loads(answered.choice["message"]["content"]) == {"a": [1, "x"], "b": None}
    assert answered.engine.requests[0].params.constrained


def test_a_constrained_answer_cut_by_length_says_so(server):
    choice = server.chat('{"a": 1}', response_format={"type": "json_object"}, max_tokens=2).choice
    assert choice["finish_reason"] == "length"


def test_text_format_constrains_nothing(server):
    answered = server.chat("fox", response_format={"type": "text"})
    assert not answered.engine.requests[0].params.constrained


def test_a_schema_may_be_left_out(server):
    asked = {"type": "json_schema", "json_schema": {"name": "it"}}
    assert json.loads(server.chat('{"x": 1}', response_format=asked).choice["message"]["content"])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "CANARY"},
        {"type": "object", "properties": {"CANARY": {"not": {"type": "string"}}}},
        {"$ref": "http://example.invalid/CANARY"},
        {"$ref": "#/$defs/CANARY"},
        {"type": "string", "pattern": "(CANARY"},
        {"type": "array", "minItems": 3, "maxItems": 1},
    ],
)
def test_bad_schemas_are_clean_errors(server, schema):
    error = server.refuse_chat(response_format=schema_format(schema))
    assert (error.status, error.code) == (400, "invalid_json_schema")
    assert error.param == "response_format.json_schema.schema"
    assert "CANARY" not in error.message


def test_keywords_that_cannot_be_enforced_are_refused_only_if_strict(server):
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    assert server.refuse_chat(response_format=schema_format(schema)).code == "invalid_json_schema"
    assert server.chat("[1, 2]", response_format=schema_format(schema, strict=False)).choice


@pytest.mark.parametrize("field", [{"ignore_eos": True}, {"min_tokens": 3}])
def test_an_end_cannot_be_both_demanded_and_forbidden(server, field):
    error = server.refuse_chat(response_format={"type": "json_object"}, **field)
    assert error.code == "unsupported_value"


# Tools


def calls_of(answered):
    return [
        (call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in answered.choice["message"]["tool_calls"]
    ]


def test_a_call_is_read_from_the_answer(server):
    answered = server.chat(CALL, tools=[WEATHER, CLOCK])
    ChatCompletion.model_validate(answered.body)
    assert calls_of(answered) == [("get_weather", {"city": "Paris"})]
    message = answered.choice["message"]
    assert message["content"] is None
    assert answered.choice["finish_reason"] == "tool_calls"
    (call,) = message["tool_calls"]
    assert call["id"].startswith("call_")
    assert call["type"] == "function"


def test_text_may_stand_before_a_call(server):
    answered = server.chat("Let me see.\n" + CALL, tools=[WEATHER])
    assert answered.choice["message"]["content"] == "Let me see.\n"
    assert calls_of(answered) == [("get_weather", {"city": "Paris"})]


def test_without_a_call_an_answer_is_text(server):
    choice = server.chat("No tool is <needed>.", tools=[WEATHER]).choice
    assert choice["message"]["content"] == "No tool is <needed>."
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"


def test_several_calls(server):
    answered = server.chat(CALL + "\n" + CLOCK_CALL, tools=[WEATHER, CLOCK])
    assert calls_of(answered) == [("get_weather", {"city": "Paris"}), ("clock", {})]
    ids = [call["id"] for call in answered.choice["message"]["tool_calls"]]
    assert len(set(ids)) == 2


@pytest.mark.parametrize("burst", [1, 50])
@pytest.mark.parametrize("text", ["", "Let me see: "])
def test_streamed_calls_accumulate_to_the_same(server, text, burst):
    answered = server.chat(
        text + CALL + "\n" + CLOCK_CALL,
        tools=[WEATHER, CLOCK],
        stream=True,
        engine_options={"burst": burst},
    )
    calls: dict[int, dict] = {}
    for chunk in answered.chunks:
        ChatCompletionChunk.model_validate(chunk)
        for part in chunk["choices"][0]["delta"].get("tool_calls", ()):
            if "id" in part:
                assert part["index"] == len(calls)
                calls[part["index"]] = {"name": part["function"]["name"], "arguments": ""}
            calls[part["index"]]["arguments"] += part["function"]["arguments"]
    assert [c["name"] for c in calls.values()] == ["get_weather", "clock"]
    assert [json.loads(c["arguments"]) for c in calls.values()] == [{"city": "Paris"}, {}]
    assert answered.text() == text
    assert answered.chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_forced_calls_are_made_and_valid(server, seed, choice):
    answered = rolled(server, seed, tools=[WEATHER, CLOCK], tool_choice=choice)
    assert answered.choice["message"]["content"] is None
    made = answered.choice["message"]["tool_calls"]
    assert made
    complete = made if answered.choice["finish_reason"] == "tool_calls" else made[:-1]
    for call in complete:
        arguments = json.loads(call["function"]["arguments"])
        if call["function"]["name"] == "clock":
            assert choice == "required"
            assert arguments == {}
        else:
            assert set(arguments) <= {"city", "days"}
            assert isinstance(arguments["city"], str)


def test_parallel_calls_can_be_forbidden(server):
    twice, tools = CALL + "\n" + CLOCK_CALL, [WEATHER, CLOCK]
    assert len(calls_of(server.chat(twice, tools=tools, parallel_tool_calls=True))) == 2
    assert len(calls_of(server.chat(CALL, tools=tools, parallel_tool_calls=False))) == 1
    with pytest.raises(Misuse, match="the mask forbids"):
        server.chat(twice, tools=tools, parallel_tool_calls=False)


def test_choice_none_offers_no_tools(server):
    answered = server.chat("plain", tools=[WEATHER], tool_choice="none")
    assert not answered.engine.requests[0].params.constrained
    prompt = server.tokenizer.decode(answered.engine.prompts[0], skip_special_tokens=False)
    assert "get_weather" not in prompt


def test_offered_tools_are_in_the_prompt(server):
    answered = server.chat("plain", tools=[WEATHER])
    prompt = server.tokenizer.decode(answered.engine.prompts[0], skip_special_tokens=False)
    assert json.dumps([WEATHER]) in prompt


def test_a_cut_call_keeps_its_arguments_and_the_reason_length(server):
    tokens = len(server.ids(CALL)) - 4
    choice = server.chat(CALL, tools=[WEATHER], max_tokens=tokens).choice
    assert choice["finish_reason"] == "length"
    (call,) = choice["message"]["tool_calls"]
    assert '{"city": "Paris"}'.startswith(call["function"]["arguments"])


def test_stop_strings_do_not_cut_calls(server):
    answered = server.chat(CALL, tools=[WEATHER], stop=["\n", "Paris"])
    assert calls_of(answered) == [("get_weather", {"city": "Paris"})]
    assert server.chat("a\nb", tools=[WEATHER], stop="\n").choice["message"]["content"] == "a"


def test_a_schema_and_tools_together(server):
    asked = {"tools": [WEATHER], "response_format": schema_format(PERSON)}
    person = '{"name": "Al", "age": 3, "tags": []}'
    assert server.chat(person, **asked).choice["message"]["content"] == person
    assert calls_of(server.chat(CALL, **asked)) == [("get_weather", {"city": "Paris"})]


def test_other_added_tokens_may_stand_in_text(server):
    choice = server.chat("<think>hm", tools=[WEATHER]).choice
    assert choice["message"]["content"] == "<think>hm"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"tools": []}, "invalid_value", "tools"),
        ({"tools": [WEATHER, WEATHER]}, "invalid_value", "tools"),
        (
            {"tools": [{"type": "custom", "custom": {"name": "CANARY"}}]},
            "unsupported_value",
            "tools[0].type",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "CANARY x"}}]},
            "invalid_value",
            "tools[0].function.name",
        ),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "CANARY"}}},
            "invalid_value",
            "tool_choice",
        ),
        (
            {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "CANARY"}}},
            "invalid_value",
            "tool_choice",
        ),
        (
            {"tools": [CLOCK], "tool_choice": {"type": "allowed_tools", "mode": "auto"}},
            "unsupported_value",
            "tool_choice.type",
        ),
        ({"tools": [CLOCK], "tool_choice": "CANARY"}, "invalid_value", "tool_choice"),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}
                ]
            },
            "invalid_json_schema",
            "tools[0].function.parameters",
        ),
        (
            {
                "tools": [
                    CLOCK,
                    {
                        "type": "function",
                        "function": {
                            "name": "f",
                            "strict": True,
                            "parameters": {"properties": {"x": {"not": {"const": "CANARY"}}}},
                        },
                    },
                ]
            },
            "invalid_json_schema",
            "tools[1].function.parameters",
        ),
    ],
)
def test_refused_tools(server, fields, code, param):
    error = server.refuse_chat(**fields)
    assert (error.status, error.code, error.param) == (400, code, param)
    assert "CANARY" not in error.message


# Other ways of writing calls


def test_formats_are_told_by_the_template():
    assert format_of("... <tool_call> ...") is HERMES
    assert format_of("""{{ '<tool_call>{"name": ' + (f.name | tojson) }}""") is COMPACT
    assert format_of("[TOOL_CALLS] [") is MISTRAL
    assert format_of('<|python_tag|> {"name": x, "parameters": y}') is LLAMA
    assert format_of("nothing about it") is HERMES


@pytest.fixture
def other(make_server, tmp_path, tokenizer):
    def make(template, tokenizer=tokenizer):
        return make_server(write_folder(tmp_path / "other", tokenizer, template), tokenizer)

    return make


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_llama_writes_one_bare_call(other, choice):
    server = other(TEMPLATE.replace("<tool_call>", '<|python_tag|>"parameters": '))
    call = '{"name": "get_weather", "parameters": {"city": "Par\\"is}"}}'
    answered = server.chat(call, tools=[WEATHER], tool_choice=choice)
    assert calls_of(answered) == [("get_weather", {"city": 'Par"is}'})]
    if choice == "auto":
        assert server.chat("say {", tools=[WEATHER]).choice["message"]["content"] == "say {"


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_calls_without_line_breaks(other, choice):
    server = other(TEMPLATE.replace("<tool_call>\\n'", """<tool_call>{"name": '"""))
    text = (CALL + CLOCK_CALL).replace("\n", "")
    answered = server.chat(text, tools=[WEATHER, CLOCK], tool_choice=choice, stream=True)
    names = [
        part["function"]["name"]
        for chunk in answered.chunks
        for part in chunk["choices"][0]["delta"].get("tool_calls", ())
        if "id" in part
    ]
    assert names == ["get_weather", "clock"]


@pytest.mark.parametrize("special", [False, True])
def test_mistral_writes_a_list_of_calls(other, special):
    tokenizer = train_tokenizer()
    if special:
        tokenizer.add_special_tokens(["[TOOL_CALLS]"])
    server = other(TEMPLATE.replace("<tool_call>", "[TOOL_CALLS]"), tokenizer)
    first, second = (call.split("\n")[1] for call in (CALL, CLOCK_CALL))
    text = f"[TOOL_CALLS][{first}, {second}]"
    answered = server.chat("So: " + text, tools=[WEATHER, CLOCK])
    assert calls_of(answered) == [("get_weather", {"city": "Paris"}), ("clock", {})]
    assert answered.choice["message"]["content"] == "So: "
    assert {len(call["id"]) for call in answered.choice["message"]["tool_calls"]} == {9}
    assert server.chat("no", tools=[WEATHER]).choice["message"]["content"] == "no"


def test_a_template_without_tools_gets_them_in_words(other):
    server = other("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    answered = server.chat(CALL, tools=[WEATHER])
    prompt = server.tokenizer.decode(answered.engine.prompts[0], skip_special_tokens=False)
    assert prompt.startswith("system: You can call these functions:\n")
    assert "get_weather" in prompt
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    prompt = server.chat(CALL, tools=[WEATHER], messages=messages).engine.prompts[0]
    text = server.tokenizer.decode(prompt)
    assert text.startswith("system: Be brief.\n\nYou can call")
    assert text.count("system:") == 1
    assert calls_of(answered) == [("get_weather", {"city": "Paris"})]


def test_marks_may_be_ordinary_text(other):
    plain = train_tokenizer(markers=False)
    server = other(TEMPLATE, plain)
    answered = server.chat("Well. " + CALL + "\n" + CLOCK_CALL, tools=[WEATHER, CLOCK])
    assert calls_of(answered) == [("get_weather", {"city": "Paris"}), ("clock", {})]
    assert answered.choice["message"]["content"] == "Well. "
    text = server.chat("a <tool_cal is none", tools=[WEATHER]).choice["message"]["content"]
    assert text == "a <tool_cal is none"


def test_no_template_means_no_chat(make_server, tmp_path, tokenizer):
    server = make_server(write_folder(tmp_path / "bare", tokenizer, None))
    error = server.refuse_chat()
    assert (error.status, error.code, error.param) == (400, "unsupported_model", "model")
    assert server.complete("fine").choice["text"] == "fine"


def test_a_template_may_live_in_the_tokenizers_configuration(make_server, tmp_path, tokenizer):
    folder = write_folder(tmp_path / "named", tokenizer, None)
    templates = [
        {"name": "default", "template": "D{{ messages[0].content }}"},
        {
            "name": "tool_use",
            "template": "{{ bos_token }}T{{ strftime_now('%Y') }}"
            "{% generation %}{{ messages[0].content }}{% endgeneration %}{{ tools }}",
        },
    ]
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": templates}))
    server = make_server(folder)
    prompt = server.chat("x").engine.prompts[0]
    text = server.tokenizer.decode(prompt, skip_special_tokens=False)
    assert text == "<|bos|>T2023HiNone"
