"""Responses: the SDK reads them, whole and streamed; what would need a memory is refused."""

from __future__ import annotations

import json

import openai
import pydantic
import pytest

from server.openai.outputs import Event
from wire.receipt import with_attestation, without_attestation

from .conftest import CANARY, MODEL
from .test_openai_errors import check_error, refused
from .test_openai_formats import CALL

PATH = "/v1/responses"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
SCHEMA = {
    "type": "object",
    "properties": {"attestation": {"type": "integer"}, "b": {"enum": ["x"]}},
    "required": ["attestation", "b"],
    "additionalProperties": False,
}


def ask(server, *texts, engine_options=None, **fields):
    return server.ask(
        PATH, {"model": MODEL, "input": "Hi", **fields}, *texts, **(engine_options or {})
    )


def events_of(answered):
    events = answered.outputs[1:]
    assert all(isinstance(event, Event) for event in events)
    assert [event.last for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1].then is None, "no [DONE] follows"
    payloads = [json.loads(event.payload) for event in events]
    assert [payload["sequence_number"] for payload in payloads] == list(range(len(payloads)))
    return payloads


def prompt(server, answered):
    return server.tokenizer.decode(answered.engine.prompts[0], skip_special_tokens=False)


def test_a_response(sdk):
    sdk.engine("The quick brown fox")
    response = sdk.client.responses.create(model=MODEL, input="Hi", instructions="Be brief.")
    assert response.output_text == "The quick brown fox"
    assert (response.status, response.error, response.store) == ("completed", None, False)
    assert response.instructions == "Be brief."
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert response.usage.output_tokens > 0
    assert response.id.startswith("resp_")
    assert response.model_extra["attestation"] is None


def test_a_stream_tells_of_its_message_piece_by_piece(sdk):
    sdk.engine("The 😀 fox")
    with sdk.client.responses.stream(model=MODEL, input="Hi") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "The 😀 fox"
    assert final.model_extra["attestation"] is None
    once = [kind for kind in kinds if kind != "response.output_text.delta"]
    assert once == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert kinds.count("response.output_text.delta") > 2


def test_a_stream_tells_of_its_calls(sdk):
    sdk.engine("So. " + CALL + "\n" + CALL.replace("Paris", "Rome"))
    with sdk.client.responses.stream(model=MODEL, input="Hi", tools=[WEATHER]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    message, *calls = final.output
    assert message.content[0].text == "So. "
    assert [call.parsed_arguments["city"] for call in calls] == ["Paris", "Rome"]
    assert {call.type for call in calls} == {"function_call"}
    assert len({call.call_id for call in calls}) == 2
    assert kinds.count("response.function_call_arguments.done") == 2


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.mark.parametrize("streamed", [False, True])
def test_parse_makes_an_object(sdk, streamed):
    sdk.engine('{"name": "Al", "age": 3}')
    responses = sdk.client.responses
    if streamed:
        with responses.stream(model=MODEL, input="Hi", text_format=Person) as stream:
            parsed = stream.get_final_response()
    else:
        parsed = responses.parse(model=MODEL, input="Hi", text_format=Person)
    assert parsed.output_parsed == Person(name="Al", age=3)


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_cut_at_its_length_is_incomplete(server, streamed):
    answered = ask(server, "The quick brown fox", max_output_tokens=3, stream=streamed)
    if streamed:
        last = events_of(answered)[-1]
        assert last["type"] == "response.incomplete"
    response = last["response"] if streamed else answered.body
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["usage"]["output_tokens"] == 3


@pytest.mark.parametrize("streamed", [False, True])
def test_an_empty_answer_is_an_empty_message(server, streamed):
    answered = ask(server, "", stream=streamed)
    response = events_of(answered)[-1]["response"] if streamed else answered.body
    (message,) = response["output"]
    assert message["content"][0]["text"] == ""


def test_a_forced_function_is_called(server):
    answered = ask(
        server, CALL, tools=[WEATHER], tool_choice={"type": "function", "name": "get_weather"}
    )
    (call,) = answered.body["output"]
    assert json.loads(call["arguments"]) == {"city": "Paris"}
    assert answered.body["tool_choice"] == {"type": "function", "name": "get_weather"}
    assert answered.body["tools"][0]["name"] == "get_weather"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_schema_of_the_clients_cannot_be_taken_for_the_receipt(server, streamed):
    """It is repeated in the response, and a member of it may be called `attestation`."""
    form = {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}
    tools = [{**WEATHER, "name": "a", "parameters": {**SCHEMA, "attestation": {"a": {}}}}]
    text = '{"attestation": 7, "b": "x"}'
    answered = ask(server, text, text={"format": form}, tools=tools, stream=streamed)
    last = answered.outputs[-1].payload
    filled = with_attestation(last, b'{"receipt":""}')
    assert without_attestation(filled) == (last, b'{"receipt":""}')
    response = json.loads(filled)["response"] if streamed else json.loads(filled)
    assert response["attestation"] == {"receipt": ""}
    assert response["text"]["format"]["schema"] == SCHEMA
    assert response["output"][0]["content"][0]["text"] == text


def test_logprobs_are_shown_if_included(sdk):
    sdk.engine("The fox")
    response = sdk.client.responses.create(
        model=MODEL, input="Hi", include=["message.output_text.logprobs"], top_logprobs=2
    )
    shown = response.output[0].content[0].logprobs
    assert "".join(token.token for token in shown) == "The fox"
    assert all(len(token.top_logprobs) == 2 for token in shown)
    sdk.engine("The fox")
    with sdk.client.responses.stream(
        model=MODEL, input="Hi", include=["message.output_text.logprobs"]
    ) as stream:
        deltas = [event for event in stream if event.type == "response.output_text.delta"]
    assert "".join(token.token for delta in deltas for token in delta.logprobs) == "The fox"


def test_an_earlier_conversation_is_read_as_a_chat(server):
    items = [
        {"role": "developer", "content": "Rules."},
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": CANARY},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "get_weather",
            "arguments": '{"city": "Paris"}',
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "Rain."},
    ]
    response = ask(server, "It rains.", input=items, instructions="First.", tools=[WEATHER])
    chat = server.chat(
        "It rains.",
        messages=[
            {"role": "system", "content": "First."},
            {"role": "developer", "content": "Rules."},
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
        ],
        tools=[{"type": "function", "function": {k: v for k, v in WEATHER.items() if k != "type"}}],
    )
    assert response.engine.prompts == chat.engine.prompts
    assert CANARY not in prompt(server, response)


def test_the_output_of_a_response_can_be_sent_back(sdk):
    """As clients without a stored conversation do: input += response.output."""
    sdk.engine("So. " + CALL)
    first = sdk.client.responses.create(model=MODEL, input="Weather?", tools=[WEATHER])
    call = first.output[-1]
    items = [{"role": "user", "content": "Weather?"}]
    items += [item.model_dump(exclude_none=True) for item in first.output]
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": "Rain."})
    sdk.engine("It rains.")
    second = sdk.client.responses.create(model=MODEL, input=items, tools=[WEATHER])
    assert second.output_text == "It rains."


def test_a_failing_engine_ends_a_stream_with_an_error(sdk):
    sdk.engine("The quick brown fox", fail_at=0)
    with pytest.raises(openai.InternalServerError):
        sdk.client.responses.create(model=MODEL, input="Hi")


def test_the_first_events_tell_no_length_of_the_request(server):
    long = ask(server, "a", instructions="x " * 500, tools=[WEATHER], stream=True)
    short = ask(server, "a", stream=True)
    sizes = [[len(output.payload) for output in each.outputs[1:3]] for each in (long, short)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"previous_response_id": CANARY}, "unsupported_parameter", "previous_response_id"),
        ({"conversation": CANARY}, "unsupported_parameter", "conversation"),
        ({"prompt": {"id": CANARY}}, "unsupported_parameter", "prompt"),
        ({"background": True}, "unsupported_value", "background"),
        ({"truncation": "auto"}, "unsupported_value", "truncation"),
        ({"tools": [{"type": "web_search"}]}, "unsupported_value", "tools[0]"),
        ({"tools": [{"type": "mcp", "server_url": CANARY}]}, "unsupported_value", "tools[0]"),
        ({"tool_choice": {"type": "allowed_tools"}}, "unsupported_value", "tool_choice.type"),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": None}, "invalid_type", "input"),
        ({"input": [{"type": "reasoning"}]}, "invalid_value", "input"),
        ({"input": [{"type": "item_reference", "id": CANARY}]}, "unsupported_value", "input[0]"),
        ({"input": [CANARY]}, "invalid_type", "input[0]"),
        ({"input": [{"role": CANARY, "content": "x"}]}, "invalid_value", "input[0].role"),
        ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": CANARY}]}
                ]
            },
            "unsupported_value",
            "input[0].content[0]",
        ),
        ({"max_output_tokens": 0}, "invalid_value", "max_output_tokens"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"top_logprobs": 21}, "invalid_value", "top_logprobs"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": CANARY}}}},
            "invalid_json_schema",
            "text.format.schema",
        ),
        (
            {"tools": [{**WEATHER, "parameters": {"type": "string"}}]},
            "invalid_json_schema",
            "tools[0].parameters",
        ),
        ({"text": {"format": {"type": CANARY}}}, "invalid_value", "text.format.type"),
    ],
)
def test_refused(server, fields, code, param):
    error = refused(server, {"model": MODEL, "input": "Hi", **fields}, PATH)
    check_error(error)
    assert (error.status, error.code, error.param) == (400, code, param)


def test_accepted_without_effect(server):
    fields = {
        "store": True,
        "metadata": {"a": "b"},
        "user": "u",
        "service_tier": "auto",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"verbosity": "low"},
        "include": ["reasoning.encrypted_content"],
        "max_tool_calls": 3,
        "truncation": "disabled",
        "background": False,
        "tools": [],
        "stream_options": {"include_obfuscation": False},
    }
    answered = ask(server, "a", **fields)
    assert answered.body["store"] is False
    assert answered.body["output"][0]["content"][0]["text"] == "a"
    nulls = dict.fromkeys([*fields, "instructions", "previous_response_id", "temperature"])
    assert ask(server, "a", **nulls).body["status"] == "completed"
