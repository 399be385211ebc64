import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import sse

LINE = st.binary(max_size=30).filter(lambda line: b"\n" not in line)


@given(st.lists(LINE, max_size=6), st.data())
def test_events_survive_any_split(payloads, data):
    stream = b"".join(b": padding\n" + sse.encode(payload) for payload in payloads)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    parser = sse.EventParser()
    found = [payload for part in parts for payload in parser.feed(part)]
    assert found == payloads
    assert parser.empty


def test_comments_alone_are_no_event():
    parser = sse.EventParser()
    assert list(parser.feed(b": keep-alive\n\n: more\n\n")) == []


def test_an_unfinished_event_is_noticed():
    parser = sse.EventParser()
    assert list(parser.feed(b"data: {}\n")) == []
    assert not parser.empty


def test_a_long_event_in_small_pieces_is_read_in_one_pass():
    parser = sse.EventParser()
    data = sse.encode(b"x" * 2_000_000)
    began = time.process_time()
    found = [
        payload for at in range(0, len(data), 100) for payload in parser.feed(data[at : at + 100])
    ]
    assert time.process_time() - began < 2  # searched and copied again each time: minutes
    assert [len(payload) for payload in found] == [2_000_000]
    assert parser.empty


@pytest.mark.parametrize("size", range(1, 30))
def test_events_may_come_in_pieces_of_any_size(size):
    stream = b": padding\ndata: one\n\ndata:two\ndata: lines\n\n: only padding\n\ndata: [DONE]\n\n"
    parser = sse.EventParser()
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    payloads = [payload for piece in pieces for payload in parser.feed(piece)]
    assert payloads == [b"one", b"two\nlines", b"[DONE]"]
    assert parser.empty
