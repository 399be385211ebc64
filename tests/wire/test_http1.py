"""RFC 9112: responses read as they come, and nothing read that is not clear."""

import contextlib
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import http1
from wire.errors import Malformed, Truncated

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n"
WHOLE = CHUNKED + b"5\r\nhello\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nt: u\r\n\r\n"
CONTENT = b"helloabcdefghijklmnopqrstuvwxyz"


def read(*parts, ended=False):
    reader = http1.ResponseReader()
    content = b"".join([reader.feed(part) for part in parts])
    if ended:
        reader.end()
    return reader, content


@pytest.mark.parametrize("at", range(len(WHOLE) + 1))
def test_a_response_may_be_cut_into_reads_anywhere(at):
    reader, content = read(WHOLE[:at], WHOLE[at:])
    assert content == CONTENT
    assert reader.complete
    assert reader.reusable
    assert reader.head == http1.ResponseHead(
        200, ((b"transfer-encoding", b"chunked"), (b"a", b"b"))
    )


@pytest.mark.parametrize("at", range(len(WHOLE)))
def test_a_chunked_response_that_ends_early_is_cut(at):
    with pytest.raises(Truncated):
        read(WHOLE[:at], ended=True)


def test_byte_by_byte():
    reader, content = read(*(WHOLE[i : i + 1] for i in range(len(WHOLE))))
    assert reader.reusable
    assert content == CONTENT


@given(st.lists(st.binary(max_size=600), max_size=8), st.integers(1, 700))
def test_what_h11_writes_is_read(pieces, size):
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    server.next_event()
    server.next_event()
    written = server.send(h11.Response(status_code=200, headers=[("x", "y")]))
    for piece in pieces:
        written += server.send(h11.Data(data=piece))
    written += server.send(h11.EndOfMessage())
    reader, content = read(*(written[i : i + size] for i in range(0, len(written), size)))
    assert content == b"".join(pieces)
    assert reader.reusable


@given(st.binary(max_size=300), st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_whatever_comes_is_read_or_refused(noise, start, stop):
    mutated = WHOLE[:start] + noise + WHOLE[stop:]
    with contextlib.suppress(Malformed):
        read(mutated, ended=True)


@given(st.binary(max_size=40), st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_what_h11_also_reads_is_read_alike(noise, start, stop):
    mutated = WHOLE[:start] + noise + WHOLE[stop:]
    try:
        reader, content = read(mutated)
    except Malformed:
        return
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(mutated)
    other, status = b"", None
    try:
        while (event := client.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                other += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
    except h11.RemoteProtocolError:
        return  # it is stricter about trailing bytes and reason phrases in places
    assert (reader.head and reader.head.status) == status
    assert content == other


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_chunks_that_come_whole_and_in_pieces_are_the_same(pieces, data):
    written = CHUNKED + b"".join(map(http1.encode_chunk, pieces)) + http1.LAST_CHUNK
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=8)))
    edges = [0, *cuts, len(written)]
    parts = [written[a:b] for a, b in pairwise(edges)]
    reader, content = read(*parts)
    assert (content, reader.reusable) == (b"".join(pieces), True)
    alone = [CHUNKED, *map(http1.encode_chunk, pieces), http1.LAST_CHUNK]
    assert read(*alone)[1] == content


def test_a_length_announces_the_content():
    reader, content = read(b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhel", b"lo")
    assert (content, reader.reusable) == (b"hello", True)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    ],
)
def test_a_response_without_content_is_complete_at_once(head):
    assert read(head)[0].reusable


def test_without_a_length_the_end_of_the_stream_is_the_end():
    reader, content = read(b"HTTP/1.1 200 OK\r\n\r\nhello", b" you")
    assert not reader.complete
    reader.end()
    assert (content, reader.complete, reader.reusable) == (b"hello you", True, False)


@pytest.mark.parametrize(
    ("response", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: x, Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False),
        (WHOLE + b"H", False),
        (WHOLE, True),
    ],
)
def test_a_connection_is_used_again_only_when_nothing_speaks_against_it(response, reusable):
    assert read(response)[0].reusable is reusable


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nc: d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabc",
        CHUNKED + b"5\r\nhelloX\r\n",
        CHUNKED + b"5 \r\nhello\r\n",
        CHUNKED + b"0x5\r\nhello\r\n",
        CHUNKED + b"-5\r\nhello\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"123456789\r\n",
        CHUNKED + b"5" + b"0" * 2000,
        CHUNKED + b"0\r\n" + b"a: b\r\n" * 65,
        CHUNKED + b"0\r\nno field\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\x0bchunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0x5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nx",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 1\r\n\r\nx",
        CHUNKED + b"5;a=\x00b\r\nhello\r\n",
        CHUNKED + b"5;a\nb\r\nhello\r\n",
        CHUNKED + b"5\nhello\r\n",
        CHUNKED + b"5\r\nhello!\r\n",
        CHUNKED + b"5\r\nhell\r\n\r\n",
        CHUNKED + b"0\r\na: b\r\n folded\r\n\r\n",
    ],
)
def test_what_is_not_clear_is_refused(response):
    with pytest.raises(Malformed):
        read(response)


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        (b"HEAD", b"/", ()),
        (b"head", b"/", ()),
        (b"CONNECT", b"a:1", ()),
        (b"GE T", b"/", ()),
        (b"GET", b"/ HTTP/1.1\r\nx: y", ()),
        (b"GET", b"", ()),
        (b"GET", b"/", ((b"a\r\nb", b"c"),)),
        (b"GET", b"/", ((b"a", b"c\r\nd: e"),)),
        (b"GET", b"/", ((b"", b"c"),)),
    ],
)
def test_a_request_head_is_the_lines_it_should_be(method, target, fields):
    with pytest.raises(Malformed):
        http1.encode_request_head(method, target, fields)


def test_a_request_is_what_h11_reads():
    head = http1.encode_request_head(
        b"POST", b"/a", ((b"host", b"b"), (b"transfer-encoding", b"chunked"), (b"empty", b""))
    )
    written = head + http1.encode_chunk(b"one") + http1.encode_chunk(b"") + http1.encode_chunk(b"2")
    server = h11.Connection(h11.SERVER)
    server.receive_data(written + http1.LAST_CHUNK)
    request = server.next_event()
    assert (request.method, request.target) == (b"POST", b"/a")
    assert (b"empty", b"") in request.headers
    content = b""
    while type(event := server.next_event()) is h11.Data:
        content += bytes(event.data)
    assert (content, type(event)) == (b"one2", h11.EndOfMessage)
