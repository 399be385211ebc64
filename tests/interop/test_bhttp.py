"""Binary HTTP against bhttp-js: it reads what we write, and we read what it writes."""

import pytest

from wire import bhttp, inner
from wire.privacy_pass import Token

TOKEN = Token(bytes(32), b"\x01" * 32, b"\x02" * 32, b"\x03" * 256)
BODY = b'{"model":"tiny","messages":[{"role":"user","content":"caf\xc3\xa9"}]}'
SIZES = [0, 1, 63, 64, 16383, 16384, 70000]  # either side of each length of a varint


@pytest.fixture(scope="module")
def theirs(peer):
    return peer("bhttp.mjs")


def inner_request(method=b"POST", path=b"/v1/chat/completions", body=BODY):
    return inner.build_request(
        method=method, path=path, body=body, date=1_800_000_000, tokens=[TOKEN] * 4
    )


def text(fields):
    return [[name.decode(), value.decode()] for name, value in fields]


# Ours, read by them.


@pytest.mark.parametrize("padded_length", [0, 4096])
def test_they_read_an_inner_request(theirs, padded_length):
    request = inner_request()
    message = bhttp.encode_request(request, padded_length=padded_length)
    read = theirs.call("decode_request", message=message)
    assert read["method"] == "POST"
    assert read["url"] == "https://sottovoce.invalid/v1/chat/completions"
    assert sorted(read["headers"]) == sorted(text(request.headers))
    assert bytes.fromhex(read["content"]) == BODY


def test_they_read_a_request_without_content(theirs):
    request = inner_request(b"GET", b"/v1/attestation?nonce=00ff", b"")
    read = theirs.call("decode_request", message=bhttp.encode_request(request))
    assert (read["method"], read["content"]) == ("GET", "")
    assert read["url"] == "https://sottovoce.invalid/v1/attestation?nonce=00ff"


@pytest.mark.parametrize("size", SIZES)
def test_they_read_a_response(theirs, size):
    fields = ((b"content-type", b"application/json"), (b"x-long", b"v" * 300))
    response = bhttp.Response(503, fields, b"x" * size, trailers=((b"after", b"all"),))
    message = bhttp.encode_response(response, padded_length=size + 1000)
    read = theirs.call("decode_response", message=message)
    assert (read["status"], read["headers"]) == (503, text(fields))
    assert bytes.fromhex(read["content"]) == b"x" * size


def test_they_read_a_response_after_informational_ones(theirs):
    early = ((103, ((b"link", b"</style.css>"),)), (102, ()))
    response = bhttp.Response(200, ((b"content-type", b"text/plain"),), b"hello", (), early)
    read = theirs.call("decode_response", message=bhttp.encode_response(response))
    assert (read["status"], read["content"]) == (200, b"hello".hex())
    assert read["headers"] == [["content-type", "text/plain"]]


@pytest.mark.parametrize("trailers", [(), ((b"after", b"all"),)])
@pytest.mark.parametrize("padding", [0, 77])
def test_they_read_a_streamed_response(theirs, trailers, padding):
    encoder = bhttp.ResponseEncoder()
    events = [b"data: one\n\n", b"e" * 70, b"e" * 20000, b"data: [DONE]\n\n"]
    message = encoder.head(200, ((b"content-type", b"text/event-stream"),))
    message += b"".join(encoder.content(event) for event in events)
    message += encoder.end(trailers, padding)
    read = theirs.call("decode_response", message=message)
    assert (read["status"], read["headers"]) == (200, [["content-type", "text/event-stream"]])
    assert bytes.fromhex(read["content"]) == b"".join(events)


# Theirs, read by us.


@pytest.mark.parametrize("size", SIZES)
def test_we_read_their_request(theirs, size):
    headers = [["content-type", "application/json"], ["date", "Fri, 15 Jan 2027 08:00:00 GMT"]]
    url = "https://sottovoce.invalid/v1/completions"
    made = theirs.call(
        "encode_request", method="POST", url=url, headers=headers, content=b"x" * size
    )
    request = bhttp.decode_request(bytes.fromhex(made["message"]))
    assert (request.method, request.scheme) == (b"POST", b"https")
    assert (request.authority, request.path) == (b"sottovoce.invalid", b"/v1/completions")
    assert text(request.headers) == headers
    assert (request.content, request.trailers) == (b"x" * size, ())


@pytest.mark.parametrize("size", SIZES)
def test_we_read_their_response(theirs, size):
    headers = [["content-type", "application/json"], ["x-long", "v" * 300]]
    made = theirs.call("encode_response", status=429, headers=headers, content=b"x" * size)
    message = bytes.fromhex(made["message"])
    response = bhttp.decode_response(message)
    assert (response.status, text(response.headers)) == (429, headers)
    assert (response.content, response.trailers) == (b"x" * size, ())

    decoder = bhttp.ResponseDecoder()
    events = [event for at in range(len(message)) for event in decoder.feed(message[at : at + 1])]
    assert isinstance(events[0], bhttp.Head)
    assert b"".join(each.data for each in events if isinstance(each, bhttp.Content)) == b"x" * size
    decoder.finish()
