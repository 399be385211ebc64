"""What is refused, how, and that no refusal repeats a word of what was sent."""

from __future__ import annotations

import contextlib
import copy
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.openai.errors import ApiError, error_body
from server.openai.outputs import Body, Event, Head
from server.openai.schemas import ChatRequest, CompletionRequest
from server.openai.validation import FIELD_NAMES

from .conftest import CANARY, MODEL, NOW, ScriptedEngine

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"


def refused(server, body, path=CHAT, method=b"POST"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ApiError) as error:
        server.application.prepare(method, path.encode(), data)
    check_error(error.value)
    return error.value


def check_error(error):
    body = error_body(error)
    members = json.loads(body)["error"]
    assert list(members) == ["message", "type", "param", "code"]
    assert all(isinstance(members[name], str) for name in ("message", "type", "code"))
    assert CANARY.encode() not in body
    assert CANARY not in str(error)
    assert error.__cause__ is None


def chat(**fields):
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **fields}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'"CANARYx91"',
        b"[1]",
        b"\xff\xfe",
        b'{"model": "CANARYx91"',
        b'{"a": NaN, "b": "CANARYx91"}',
        b'{"a": 1, "a": "CANARYx91"}',
        b'{"a": "\\ud800 CANARYx91"}',
        b'{"\\udc00": 1}',
        '{"model": 1}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b'{"a": ' + b"9" * 10_000 + b"}",
        b'{"a": 1} CANARYx91',
    ],
)
def test_bodies_that_are_no_json_object(server, body):
    error = refused(server, body)
    assert (error.status, error.type, error.code) == (400, "invalid_request_error", "invalid_json")


def test_a_large_body_is_read(server):
    messages = [{"role": "user", "content": "x" * 100}] * 20_000
    error = refused(server, chat(messages=messages))
    assert error.code == "context_length_exceeded"


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_an_unknown_model_is_not_found(server, path):
    error = refused(server, {**chat(prompt="x"), "model": CANARY}, path)
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        (b"GET", CHAT, 405, "method_not_allowed"),
        (b"PUT", TEXT, 405, "method_not_allowed"),
        (b"POST", "/v1/models", 405, "method_not_allowed"),
        (b"DELETE", "/v1/models/" + MODEL, 405, "method_not_allowed"),
        (b"POST", "/v1/" + CANARY, 404, "unknown_url"),
        (b"POST", "/v1/embeddings", 404, "unknown_url"),
        (b"GET", "/v1/chat/completions/x", 404, "unknown_url"),
        (b"POST", "/", 404, "unknown_url"),
        (b"GET", "/v1/models/" + CANARY, 404, "model_not_found"),
    ],
)
def test_methods_and_paths(server, method, path, status, code):
    error = refused(server, {}, path, method)
    assert (error.status, error.code) == (status, code)


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("name", ["model", "messages", "prompt"])
def test_required_fields(server, path, name):
    body = chat(prompt="x")
    del body[name]
    if name == ("prompt" if path == CHAT else "messages"):
        server.application.prepare(b"POST", path.encode(), json.dumps(body).encode())
        return
    error = refused(server, body, path)
    assert (error.status, error.code, error.param) == (400, "missing_required_parameter", name)


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("temperature", -0.1, 2.1),
        ("top_p", -0.1, 1.1),
        ("min_p", -0.1, 1.1),
        ("frequency_penalty", -2.1, 2.1),
        ("presence_penalty", -2.1, 2.1),
        ("repetition_penalty", 0, 101),
        ("n", 0, 129),
        ("max_tokens", 0, 2**70),
        ("max_completion_tokens", -1, 2**70),
        ("seed", -(2**63) - 1, 2**63),
        ("top_k", -2, 2**32),
        ("min_tokens", -1, 2**70),
        ("top_logprobs", -1, 21),
        ("logit_bias", {"1": -101}, {"1": 101}),
        ("stop", "", ["a"] * 5),
    ],
)
def test_ranges(server, field, low, high):
    for value in (low, high):
        error = refused(
            server, chat(**{field: value}, **({"logprobs": True} if "top_l" in field else {}))
        )
        assert error.status == 400
        assert error.param == field


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
        ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
        ({"logit_bias": {CANARY: 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"100000": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"²": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "invalid_value", "logit_bias"),
        ({"min_tokens": 9, "max_tokens": 8}, "invalid_value", "min_tokens"),
        ({"modalities": ["text", "audio"]}, "unsupported_value", "modalities"),
        ({"functions": [{"name": CANARY}]}, "unsupported_parameter", "functions"),
        ({"function_call": "auto"}, "unsupported_parameter", "function_call"),
        ({"audio": {"voice": CANARY}}, "unsupported_parameter", "audio"),
        ({"prediction": {"content": CANARY}}, "unsupported_parameter", "prediction"),
        ({"web_search_options": {}}, "unsupported_parameter", "web_search_options"),
        ({"moderation": {"model": CANARY}}, "unsupported_parameter", "moderation"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "function", "content": CANARY}]}, "invalid_type", "messages[0]"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "invalid_type", "messages[0].content"),
        (
            {"messages": [{"role": "assistant"}]},
            "missing_required_parameter",
            "messages[0].content",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "missing_required_parameter",
            "messages[0].tool_call_id",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": CANARY}}],
                    }
                ]
            },
            "unsupported_value",
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "unsupported_value",
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": ["x"]}]}]},
            "invalid_value",
            "messages[0].content[0].type",
        ),
        (
            {
                "messages": [
                    {"role": "assistant", "content": "x", "function_call": {"name": CANARY}}
                ]
            },
            "unsupported_parameter",
            "messages[0].function_call",
        ),
        ({"response_format": {"type": CANARY}}, "invalid_value", "response_format.type"),
        (
            {"response_format": {"type": "json_schema"}},
            "missing_required_parameter",
            "response_format.json_schema",
        ),
    ],
)
def test_refused_combinations(server, fields, code, param):
    error = refused(server, chat(**fields))
    assert (error.status, error.code, error.param) == (400, code, param)


@pytest.mark.parametrize("model", [ChatRequest, CompletionRequest])
def test_no_field_is_ever_repeated_in_an_error(server, model):
    """A canary of every JSON type in every field: refused without it, or accepted."""
    values = [CANARY, [CANARY], {CANARY: CANARY}, [[CANARY]], [{CANARY: 1}], {"type": CANARY}]
    path = CHAT if model is ChatRequest else TEXT
    for name in [*model.model_fields, "functions", "audio", "suffix", CANARY]:
        for value in values:
            error = error_of(server, path, {**chat(prompt="x"), name: value})
            if error is not None:
                check_error(error)
                assert error.status in (400, 404)


def error_of(server, path, body):
    try:
        server.application.prepare(b"POST", path.encode(), json.dumps(body).encode())
    except ApiError as error:
        return error
    return None


class TestContext:
    def test_a_prompt_that_does_not_fit(self, server):
        error = refused(server, chat(messages=[{"role": "user", "content": "x " * 3000}]))
        assert (error.status, error.code) == (400, "context_length_exceeded")
        assert "2048" in error.message

    def test_a_completion_that_does_not_fit(self, server):
        error = refused(server, chat(max_tokens=2048))
        assert error.code == "context_length_exceeded"
        prompt = len(server.ids("<|start|>user\nHi<|end|>\n<|start|>assistant\n"))
        for number in (2048, 2048 + prompt, prompt):
            assert str(number) in error.message
        assert server.prepare_chat(max_tokens=2048 - prompt).tokens_needed == 2

    @pytest.mark.parametrize(
        ("n", "max_tokens", "tokens"),
        [(1, 10, 1), (1, 1000, 1), (1, 1500, 2), (4, 1000, 4), (8, 1000, 8), (5, 1000, 8)],
    )
    def test_the_price(self, server, n, max_tokens, tokens):
        assert server.prepare_chat(n=n, max_tokens=max_tokens).tokens_needed == tokens

    def test_more_than_eight_tokens_are_refused_with_numbers(self, server):
        error = refused(server, chat(n=9, max_tokens=1000))
        assert error.code == "request_too_large"
        assert "8192" in error.message

    def test_unasked_length_is_what_one_token_pays_for(self, server):
        plan = server.prepare_chat()
        assert plan.tokens_needed == 1
        engine = server.engine("a")
        list(plan.run(engine, lambda: 1, NOW))
        assert engine.requests[0].params.max_new_tokens == 1024 - len(engine.prompts[0])

    def test_unasked_length_shrinks_to_the_context(self, make_server, folder):
        server = make_server(folder, max_model_len=64)
        engine = server.chat("a").engine
        assert engine.requests[0].params.max_new_tokens == 64 - len(engine.prompts[0])

    def test_a_long_prompt_may_take_a_second_token(self, server):
        text = "é" * 500  # two tokens each
        plan = server.prepare_chat(messages=[{"role": "user", "content": text}])
        assert plan.tokens_needed == 2


class TestModels:
    def test_list(self, server):
        plan = server.application.prepare(b"GET", b"/v1/models", b"")
        head, body = plan.run(server.engine(), lambda: 1, NOW)
        assert (head.status, body.last) == (200, True)
        assert body.payload.endswith(b',"attestation":null}')
        (model,) = json.loads(body.payload)["data"]
        assert model == {
            "id": MODEL,
            "object": "model",
            "created": 1_600_000_000,
            "owned_by": "sottovoce",
            "max_model_len": 2048,
        }
        assert plan.tokens_needed == 1
        assert not plan.streamed
        assert plan.usage().prompt_tokens == plan.counts().checks == 0

    @pytest.mark.parametrize("path", ["/v1/models/" + MODEL, "/v1/models/small%2Ftest-model?x=1"])
    def test_one(self, server, path):
        plan = server.application.prepare(b"GET", path.encode(), b"")
        _, body = plan.run(server.engine(), lambda: 1, NOW)
        assert json.loads(body.payload)["id"] == MODEL


# Whatever comes, an answer or an ApiError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"])},
    optional={
        "content": st.text(max_size=30)
        | JSON
        | st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["text", "refusal", "file"]), "text": st.text()}
            )
        ),
        "tool_call_id": st.text(max_size=3),
        "tool_calls": st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.text(max_size=3),
                    "type": st.just("function"),
                    "function": st.fixed_dictionaries(
                        {"name": st.text(max_size=5), "arguments": st.text()}
                    ),
                }
            ),
            max_size=2,
        ),
        "name": JSON,
    },
)
SCHEMA = st.fixed_dictionaries(
    {"type": st.sampled_from(["object", "string", "integer", "array"])},
    optional={
        "properties": st.dictionaries(st.text(max_size=5), st.just({"type": "string"}), max_size=3),
        "required": JSON,
        "pattern": st.text(max_size=8),
        "items": JSON,
        "enum": st.lists(JSON, max_size=3),
        "additionalProperties": JSON,
    },
)
FIELDS = {
    "messages": st.lists(MESSAGE, min_size=1, max_size=4),
    "prompt": st.text() | st.lists(st.integers(-5, 400)) | st.lists(st.text(), max_size=3) | JSON,
    "stop": st.text(max_size=4) | st.lists(st.text(max_size=3), max_size=4),
    "n": st.integers(1, 3),
    "max_tokens": st.integers(0, 20),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
    "logprobs": st.booleans() | st.integers(0, 5),
    "top_logprobs": st.integers(0, 20),
    "echo": st.booleans(),
    "seed": st.integers(),
    "logit_bias": st.dictionaries(st.integers(-5, 400).map(str), st.floats(-110, 110), max_size=3),
    "min_tokens": st.integers(0, 5),
    "ignore_eos": st.booleans(),
    "tools": st.lists(
        st.fixed_dictionaries(
            {
                "type": st.just("function"),
                "function": st.fixed_dictionaries(
                    {"name": st.sampled_from("abc")},
                    optional={"parameters": SCHEMA, "strict": st.booleans()},
                ),
            }
        ),
        max_size=3,
    ),
    "tool_choice": st.sampled_from(["auto", "none", "required"]) | JSON,
    "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}])
    | SCHEMA.map(lambda s: {"type": "json_schema", "json_schema": {"name": "x", "schema": s}}),
}
ITEM = st.one_of(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
            "content": st.text(max_size=9)
            | st.lists(
                st.fixed_dictionaries(
                    {
                        "type": st.sampled_from(["input_text", "output_text", "refusal", "x"]),
                        "text": st.text(max_size=9),
                    }
                ),
                max_size=2,
            ),
        },
        optional={"type": st.just("message") | JSON},
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("function_call"),
            "call_id": st.text(max_size=3),
            "name": st.text(max_size=3),
            "arguments": st.text(max_size=9),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("function_call_output"),
            "call_id": st.text(max_size=3),
            "output": st.text(max_size=9) | JSON,
        }
    ),
    st.fixed_dictionaries({"type": st.just("reasoning") | JSON}),
)
FIELDS |= {
    "input": st.text(max_size=9) | st.lists(ITEM, max_size=4) | JSON,
    "instructions": st.none() | st.text(max_size=9) | JSON,
    "text": JSON
    | SCHEMA.map(lambda s: {"format": {"type": "json_schema", "name": "x", "schema": s}}),
    "include": st.just(["message.output_text.logprobs"]) | JSON,
    "reasoning": JSON,
    "tokens": st.lists(st.integers(-5, 500), max_size=5) | JSON,
}
BODY = st.fixed_dictionaries({}, optional=FIELDS)


def answer_or_error(server, path, body):
    """Run a request on an engine that says anything it may; the outputs, or the error."""
    try:
        outputs = answer(server, path, body)
    except ApiError as error:
        failure = error
    else:
        assert all(isinstance(output, Head | Event | Body) for output in outputs)
        assert sum(getattr(output, "last", False) for output in outputs) == 1
        return outputs
    assert failure.code != "internal_error"
    json.loads(error_body(failure))
    return failure


def answer(server, path, body):
    def choose(index, position, mask):
        if mask is None:
            return (position * 7 + index) % server.geometry.vocab_size
        return next(i for i in reversed(range(len(mask) * 8)) if mask[i // 8] >> i % 8 & 1)

    plan = server.application.prepare(b"POST", path.encode(), body)
    assert plan.tokens_needed in (1, 2, 4, 8)
    engine = ScriptedEngine(server.geometry, choose=choose, burst=3)
    with contextlib.closing(engine):
        return list(plan.run(engine, lambda: 5, NOW))


FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES, "/tokenize", "/detokenize"])
def test_nothing_but_an_answer_or_an_api_error_comes_of_likely_bodies(server, path):
    answered = 0

    @FUZZ
    @given(BODY)
    def fuzz(fields):
        nonlocal answered
        given = {"prompt": "x", "input": "x", "tokens": [60], "max_output_tokens": 12}
        body = {**chat(**given), "max_tokens": 12, **copy.deepcopy(fields)}
        body.pop({"/tokenize": "messages", RESPONSES: "prompt"}.get(path), None)
        body = json.dumps(body).encode()
        answered += not isinstance(answer_or_error(server, path, body), ApiError)

    fuzz()
    assert answered > 10


@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES, "/tokenize", "/detokenize"])
def test_nothing_but_an_answer_or_an_api_error_comes_of_any_json(server, path):
    @FUZZ
    @given(st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(max_size=5), JSON, max_size=4))
    def fuzz(fields):
        answer_or_error(
            server, path, json.dumps({**chat(prompt="x", input="x", tokens=[1]), **fields}).encode()
        )

    fuzz()


HUGE = "9" * 400
RAW = [
    HUGE,
    "-" + HUGE,
    "1e999",
    "-1e999",
    "1e-999",
    "0." + HUGE,
    str(2**63),
    str(-(2**63) - 1),
    str(2**64),
    "NaN",
    "-Infinity",
    '"\\ud800"',
    '"\\u0000"',
    "true",
    "null",
    "[]",
    "{}",
    '""',
    "[[" * 40 + "]]" * 40,
    '{"a":' * 60 + "1" + "}" * 60,
    '{"a":1,"a":2}',
    "[" + "1," * 3000 + "1]",
]


@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES, "/tokenize", "/detokenize"])
def test_no_value_whatever_of_any_field_is_a_failure_of_ours(server, path):
    """Every field, every odd number and text, spelled by hand: no encoder would write them."""
    given = chat(prompt="x", input="x", tokens=[60], max_tokens=4, max_output_tokens=4)
    for name in sorted({*FIELD_NAMES, "model", "prompt", "best_of", "unknown"}):
        others = {key: value for key, value in given.items() if key != name}
        for raw in RAW:
            written = json.dumps(others)[:-1] + f', "{name}": {raw}}}'
            result = answer_or_error(server, path, written.encode())
            if isinstance(result, ApiError):
                assert result.status in (400, 404), (name, raw, result.code)


@pytest.mark.parametrize("text", ["a", " ", "é😀", "x y "])
@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES])
def test_ten_megabytes_of_text_are_refused_in_good_time(server, path, text):
    text *= 10_000_000 // len(text.encode())
    messages = [{"role": "user", "content": text}]
    given = {CHAT: {"messages": messages}, TEXT: {"prompt": text}, RESPONSES: {"input": text}}
    body = json.dumps({"model": MODEL, **given[path]})
    began = time.process_time()
    error = answer_or_error(server, path, body.encode())
    assert error.code == "context_length_exceeded"
    assert time.process_time() - began < 5


@FUZZ
@given(st.binary(max_size=60))
def test_nothing_but_an_api_error_comes_of_any_bytes(server, body):
    assert answer_or_error(server, CHAT, body).status in (400, 404)
