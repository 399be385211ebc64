import contextlib
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import bhttp, messages
from wire.bhttp import Content, End, Head, Request, Response
from wire.errors import Malformed, Truncated

VECTORS = json.loads((Path(__file__).parent / "vectors" / "rfc9292_examples.json").read_text())

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12).map(str.encode)
NAMES = NAMES.filter(lambda name: name not in messages._CONNECTION_FIELDS)
VALUES = st.binary(max_size=20).filter(messages._FIELD_VALUE.fullmatch)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=3).map(tuple)
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=12)
VISIBLE = VISIBLE.map(str.encode)
METHODS = st.sampled_from((b"GET", b"POST", b"M-SEARCH"))
REQUESTS = st.builds(
    Request, METHODS, VISIBLE, VISIBLE, VISIBLE, FIELDS, st.binary(max_size=300), FIELDS
)
RESPONSES = st.builds(
    Response,
    st.integers(200, 599),
    FIELDS,
    st.binary(max_size=300),
    FIELDS,
    st.lists(st.tuples(st.integers(100, 199), FIELDS), max_size=2).map(tuple),
)


def published_request():
    fields = VECTORS["request_fields"]
    return Request(
        fields["method"].encode(),
        fields["scheme"].encode(),
        fields["authority"].encode(),
        fields["path"].encode(),
        tuple((name.encode(), value.encode()) for name, value in fields["headers"]),
    )


def test_published_request_is_written_byte_for_byte():
    expected = bytes.fromhex(VECTORS["request_known_length"])
    assert bhttp.encode_request(published_request()) == expected


@pytest.mark.parametrize("form", ["", "_truncated", "_padded"])
def test_published_request_is_read_whole_truncated_and_padded(form):
    entry = VECTORS["request_known_length" + form]
    data = bytes.fromhex(entry["hex"] if form else entry)
    assert bhttp.decode_request(data) == published_request()


@pytest.mark.parametrize("form", ["response_known_length_chunked_origin", "response_indeterminate"])
def test_published_responses_are_read(form):
    response = bhttp.decode_response(bytes.fromhex(VECTORS[form]["hex"]))
    assert response.status == 200
    assert response.content == b"This content contains CRLF.\r\n"
    assert response.trailers == ((b"trailer", b"text"),)


def test_published_known_length_response_is_written():
    published = VECTORS["response_known_length_chunked_origin"]
    response = Response(200, (), published["content_ascii"].encode(), ((b"trailer", b"text"),))
    assert bhttp.encode_response(response).hex() == published["hex"]


def test_published_indeterminate_response_is_written_piece_by_piece():
    encoder = bhttp.ResponseEncoder()
    content = VECTORS["response_known_length_chunked_origin"]["content_ascii"].encode()
    pieces = [
        encoder.head(200),
        encoder.content(content),
        encoder.end(((b"trailer", b"text"),)),
    ]
    assert b"".join(pieces).hex() == VECTORS["response_indeterminate"]["hex"]


def test_published_tiny_messages_have_no_sections_at_all():
    request = bhttp.decode_request(bytes.fromhex(VECTORS["tiny_request"]))
    assert request == Request(b"GET", b"https", b"example.com", b"/")
    assert bhttp.decode_response(bytes.fromhex(VECTORS["tiny_response"])) == Response(200)


@pytest.mark.parametrize("entry", VECTORS["must_fail"], ids=lambda entry: entry["why"])
def test_what_must_fail_fails(entry):
    with pytest.raises(Malformed):
        bhttp.decode_request(bytes.fromhex(entry["hex"]))


@given(REQUESTS, st.sampled_from((0, 512, 1024)))
def test_requests_come_back_through_any_padding(request, padded_length):
    data = bhttp.encode_request(request, padded_length=padded_length)
    assert len(data) >= padded_length
    assert bhttp.decode_request(data) == request


@given(RESPONSES, st.sampled_from((0, 512, 1024)))
def test_responses_come_back_through_any_padding(response, padded_length):
    data = bhttp.encode_response(response, padded_length=padded_length)
    assert bhttp.decode_response(data) == response


@given(REQUESTS)
def test_a_request_cut_anywhere_but_between_sections_is_truncated(request):
    data = bhttp.encode_request(request)
    shorter = [
        request,
        dataclasses.replace(request, trailers=()),
        dataclasses.replace(request, trailers=(), content=b""),
        dataclasses.replace(request, trailers=(), content=b"", headers=()),
    ]
    for end in range(len(data)):
        try:
            assert bhttp.decode_request(data[:end]) in shorter
        except Truncated:
            continue


@given(st.binary(max_size=80), st.sampled_from((b"", b"\0", b"\1", b"\2", b"\3")))
def test_no_bytes_at_all_raise_anything_but_malformed(data, framing):
    for decode in (bhttp.decode_request, bhttp.decode_response):
        with contextlib.suppress(Malformed):
            decode(framing + data)


@given(REQUESTS, st.data())
def test_a_mutated_request_is_refused_or_another_valid_one(request, data):
    encoded = bytearray(bhttp.encode_request(request))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    try:
        mutated = bhttp.decode_request(bytes(encoded))
    except Malformed:
        return
    assert bhttp.decode_request(bhttp.encode_request(mutated)) == mutated


@pytest.mark.parametrize("padding", [b"\1", b"\0\0\1", b" "])
def test_padding_that_is_not_zero_is_refused(padding):
    with pytest.raises(Malformed, match="padding"):
        bhttp.decode_request(bhttp.encode_request(published_request()) + padding)


def streamed(fields=((b"content-type", b"text/event-stream"),), trailers=()):
    encoder = bhttp.ResponseEncoder()
    pieces = [encoder.head(200, fields)]
    pieces += [encoder.content(data) for data in (b"one", b"two" * 400, b"")]
    return b"".join([*pieces, encoder.end(trailers, padding=7)])


def test_a_stream_split_at_every_byte_gives_the_same_events():
    data = streamed(trailers=((b"a", b"b"),))
    expected = [
        Head(200, ((b"content-type", b"text/event-stream"),)),
        Content(b"one"),
        Content(b"two" * 400),
        End(((b"a", b"b"),)),
    ]
    byte_by_byte = bhttp.ResponseDecoder()
    events = [event for byte in data for event in byte_by_byte.feed(bytes([byte]))]
    assert events + byte_by_byte.finish() == expected
    for at in range(len(data)):
        decoder = bhttp.ResponseDecoder()
        assert [*decoder.feed(data[:at]), *decoder.feed(data[at:]), *decoder.finish()] == expected


@given(RESPONSES)
def test_a_stream_of_known_length_gives_the_whole_content_at_once(response):
    decoder = bhttp.ResponseDecoder()
    events = [
        event for byte in bhttp.encode_response(response) for event in decoder.feed(bytes([byte]))
    ] + decoder.finish()
    content = [Content(response.content)] if response.content else []
    head = Head(response.status, response.headers, response.informational)
    assert events == [head, *content, End(response.trailers)]


def test_a_stream_cut_before_its_content_ended_is_truncated():
    data = streamed().rstrip(b"\0")
    decoder = bhttp.ResponseDecoder()
    decoder.feed(data)
    with pytest.raises(Truncated):
        decoder.finish()


def test_the_end_of_a_message_without_its_empty_sections_comes_with_finish():
    decoder = bhttp.ResponseDecoder()
    assert decoder.feed(bytes.fromhex("0140c8")) == []
    assert decoder.finish() == [Head(200, ()), End(())]


def test_a_length_beyond_its_limit_is_refused_before_the_bytes_come():
    decoder = bhttp.ResponseDecoder()
    decoder.feed(bhttp.ResponseEncoder().head(200))
    with pytest.raises(Malformed, match="limit"):
        decoder.feed(bytes.fromhex("81000001"))  # 16 MiB and one byte
    with pytest.raises(Malformed, match="earlier"):
        decoder.feed(b"")
    with pytest.raises(Malformed, match="earlier"):
        decoder.finish()


def test_a_field_section_that_never_ends_is_refused():
    line = b"\x01a\x01b"
    data = b"\x03\x40\xc8" + line * (messages.MAX_FIELDS // 4 + 1)
    with pytest.raises(Malformed, match="limit"):
        bhttp.decode_response(data)


def test_content_in_many_chunks_is_bounded_as_a_whole(monkeypatch):
    data = streamed()
    monkeypatch.setattr(bhttp, "MAX_CONTENT", 1000)
    with pytest.raises(Malformed, match="content is too long"):
        bhttp.decode_response(data)


def test_no_more_than_a_few_informational_responses_are_read():
    data = b"\x01" + b"\x40\x67\x00" * (messages.MAX_INFORMATIONAL + 1) + b"\x40\xc8"
    with pytest.raises(Malformed, match="informational"):
        bhttp.decode_response(data)


def test_informational_responses_do_not_end_a_message():
    with pytest.raises(Truncated):
        bhttp.decode_response(b"\x01\x40\x67")


@pytest.mark.parametrize(
    "field",
    [
        (b"Upper", b""),
        (b":path", b"/"),
        (b"", b""),
        (b"a b", b""),
        (b"connection", b"close"),
        (b"transfer-encoding", b"chunked"),
        (b"a", b"line\r\nbreak"),
        (b"a", b"nul\0"),
        (b"a", b" leading"),
        (b"a", b"trailing\t"),
    ],
)
def test_fields_that_http2_would_refuse_are_refused_both_ways(field, monkeypatch):
    request = Request(b"GET", b"https", b"a", b"/", (field,))
    with pytest.raises(Malformed):
        bhttp.encode_request(request)
    monkeypatch.setattr(bhttp, "check_field", lambda name, value: (name, value))
    encoded = bhttp.encode_request(request)
    with pytest.raises(Malformed):
        bhttp.decode_request(encoded)


@pytest.mark.parametrize(
    "request_",
    [
        Request(b"", b"https", b"a", b"/"),
        Request(b"G ET", b"https", b"a", b"/"),
        Request(b"GET", b"ht tps", b"a", b"/"),
        Request(b"GET", b"https", b"a\n", b"/"),
        Request(b"GET", b"https", b"a", b"/" * (messages.MAX_CONTROL + 1)),
    ],
)
def test_control_data_that_is_not_valid_is_not_written(request_):
    with pytest.raises(Malformed):
        bhttp.encode_request(request_)


@pytest.mark.parametrize("status", [0, 99, 100, 199, 600, 1000])
def test_a_final_status_lies_between_200_and_599(status):
    with pytest.raises(Malformed):
        bhttp.encode_response(Response(status))


def test_a_field_may_not_overrun_its_section():
    data = bhttp.encode_response(Response(200, ((b"a", b"b"),)))
    broken = data.replace(b"\x01a\x01b", b"\x01a\x02b")
    with pytest.raises(Malformed, match="overruns"):
        bhttp.decode_response(broken)


def test_the_pieces_of_a_streamed_response_come_in_order():
    encoder = bhttp.ResponseEncoder()
    with pytest.raises(ValueError, match="content"):
        encoder.content(b"early")
    encoder.head(200)
    with pytest.raises(ValueError, match="head"):
        encoder.head(200)
    encoder.end()
    with pytest.raises(ValueError, match="content"):
        encoder.content(b"late")


def test_feeding_after_the_end_is_the_callers_mistake():
    decoder = bhttp.ResponseDecoder()
    decoder.feed(streamed())
    decoder.finish()
    with pytest.raises(ValueError, match="finished"):
        decoder.feed(b"\0")


def test_a_message_shows_neither_fields_nor_content():
    fields = ((b"canary", b"canary"),)
    for message in (
        Request(b"GET", b"https", b"a", b"/", fields, b"canary", fields),
        Response(200, fields, b"canary", fields),
        Content(b"canary"),
    ):
        assert "canary" not in repr(message)
