"""A client's connection without sockets: what comes, what waits, and when it is used again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import http1
from wire.errors import Malformed, Truncated
from wire.http1_client import IDLE_S, MAX_IDLE, READ_AHEAD, Connection, IdleConnections, Origin

ORIGIN = Origin("http", "relay", 80)
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = HEAD + b"5\r\nhello\r\n0\r\n\r\n"


class Wire:
    def __init__(self):
        self.written, self.closed, self.calls = b"", False, []

    def write(self, data):
        self.written += data

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def connected(*, clock=None, origin=ORIGIN):
    changes = []
    connection = Connection(origin, lambda: changes.append(1), clock or Clock())
    wire = Wire()
    connection.connection_made(wire)
    return connection, wire, changes


def asked(**options):
    connection, wire, changes = connected(**options)
    connection.begin(b"GET", b"/", [(b"host", b"relay")])
    connection.end()
    return connection, wire, changes


def answered(**options):
    connection, wire, _ = asked(**options)
    connection.data_received(WHOLE)
    connection.take()
    return connection, wire


def test_a_request_with_a_length_is_written_as_it_is():
    connection, wire, _ = connected()
    connection.begin(b"POST", b"/a", [(b"host", b"relay"), (b"content-length", b"3")])
    connection.send(b"ab")
    connection.send(b"c")
    connection.end()
    assert wire.written == b"POST /a HTTP/1.1\r\nhost: relay\r\ncontent-length: 3\r\n\r\nabc"


def test_a_chunked_request_is_written_in_chunks():
    connection, wire, _ = connected()
    connection.begin(b"POST", b"/a", [(b"transfer-encoding", b"chunked")])
    for piece in (b"ab", b"", b"c"):
        connection.send(piece)
    connection.end()
    assert wire.written.endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")


def test_nothing_is_written_to_a_connection_that_is_lost():
    connection, wire, _ = connected()
    connection.begin(b"POST", b"/a", [(b"transfer-encoding", b"chunked")])
    connection.close()
    written = wire.written
    connection.send(b"a")
    connection.end()
    assert wire.written == written


def test_a_request_that_is_no_line_is_not_sent():
    connection, wire, _ = connected()
    with pytest.raises(Malformed):
        connection.begin(b"GET", b"/ HTTP/1.1\r\nx: y", [])
    assert wire.written == b""


@pytest.mark.parametrize("at", range(len(WHOLE) + 1))
@pytest.mark.parametrize("into_sink", [False, True])
def test_an_answer_may_be_cut_into_reads_anywhere(at, into_sink):
    connection, _, changes = asked()
    got = []
    if into_sink:
        connection.sink = got.append
    connection.data_received(WHOLE[:at])
    connection.data_received(WHOLE[at:]) if at < len(WHOLE) else None
    assert changes
    content = b"".join(got) if into_sink else connection.take()
    assert (content, connection.complete, connection.reusable) == (b"hello", True, True)
    assert connection.head.status == 200


@pytest.mark.parametrize("at", range(len(WHOLE)))
@pytest.mark.parametrize("by", ["eof", "lost"])
def test_an_answer_that_ends_early_is_an_error(at, by):
    connection, wire, _ = asked()
    if at:
        connection.data_received(WHOLE[:at])
    connection.eof_received() if by == "eof" else connection.connection_lost(None)
    assert isinstance(connection.error, Truncated)
    assert connection.lost
    assert not connection.reusable
    assert wire.closed


def test_the_first_error_stays():
    connection, _, _ = asked()
    connection.connection_lost(ConnectionResetError())
    connection.fail(TimeoutError())
    assert isinstance(connection.error, ConnectionResetError)


def test_an_answer_without_a_length_ends_with_the_stream():
    connection, _, _ = asked()
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nhello")
    connection.eof_received()
    connection.connection_lost(None)
    assert (connection.take(), connection.complete) == (b"hello", True)
    assert connection.error is None
    assert not connection.reusable


@pytest.mark.parametrize("before", [b"", WHOLE])
def test_what_nobody_asked_for_ends_the_connection(before):
    connection, _, _ = asked() if before else connected()
    if before:
        connection.data_received(before)
    connection.data_received(WHOLE)
    assert isinstance(connection.error, Malformed)
    assert connection.lost


def test_an_idle_connection_that_ends_is_lost_without_an_error_of_the_answer():
    connection, wire, _ = connected()
    connection.eof_received()
    wire.close()
    assert connection.lost


def test_what_is_no_answer_is_an_error():
    connection, _, _ = asked()
    connection.data_received(b"SSH-2.0-x\r\n\r\n")
    assert isinstance(connection.error, Malformed)


@given(st.lists(st.sampled_from((0, 1, 700, READ_AHEAD // 2, READ_AHEAD)), max_size=6))
def test_no_more_is_read_than_may_wait(lengths):
    pieces = list(map(bytes, lengths))
    connection, wire, _ = asked()
    connection.data_received(HEAD)
    waiting = 0
    for piece in pieces:
        connection.data_received(http1.encode_chunk(piece)) if piece else None
        waiting += len(piece)
        assert connection.waiting == waiting
        assert (wire.calls == ["pause"]) == (waiting > READ_AHEAD)
    assert connection.take() == b"".join(pieces)
    assert wire.calls == (["pause", "resume"] if waiting > READ_AHEAD else [])
    assert connection.waiting == 0


def test_a_closed_connection_is_neither_paused_nor_resumed():
    connection, wire, _ = asked()
    connection.pause()
    connection.pause()
    connection.close()
    connection.resume()
    connection.pause()
    assert wire.calls == ["pause"]


def test_writing_stops_and_goes_on_as_the_network_says():
    connection, _, changes = connected()
    connection.pause_writing()
    assert not connection.writable
    connection.resume_writing()
    assert connection.writable
    assert changes
    connection.pause_writing()
    connection.connection_lost(None)
    assert connection.writable


def test_silence_counts_from_the_end_of_the_request_and_not_while_reading_is_paused():
    clock = Clock()
    connection, _, _ = connected(clock=clock)
    connection.begin(b"GET", b"/", [])
    clock.now = 5
    assert connection.silence == 0
    connection.end()
    clock.now = 7
    assert connection.silence == 2
    connection.data_received(HEAD)
    assert connection.silence == 0
    clock.now = 9
    connection.pause()
    assert connection.silence == 0
    connection.resume()
    assert connection.silence == 0
    clock.now = 10
    assert connection.silence == 1


def test_a_connection_whose_answer_was_read_is_kept_and_found():
    idle = IdleConnections(Clock())
    connection, wire = answered()
    idle.keep(connection)
    assert idle.find(Origin("https", "relay", 443)) is None
    assert idle.find(ORIGIN) is connection
    assert idle.find(ORIGIN) is None
    connection.begin(b"GET", b"/again", [])
    connection.end()
    connection.data_received(WHOLE)
    assert connection.take() == b"hello"
    assert not wire.closed


def test_what_nobody_took_of_an_answer_is_not_part_of_the_next():
    idle = IdleConnections(Clock())
    connection, _, _ = asked()
    connection.data_received(WHOLE)
    idle.keep(connection)
    assert idle.find(ORIGIN) is connection
    assert connection.waiting == 0
    connection.begin(b"GET", b"/again", [])
    connection.end()
    connection.data_received(HEAD + b"2\r\nme\r\n0\r\n\r\n")
    assert connection.take() == b"me"


def test_a_connection_is_closed_when_its_request_or_its_answer_was_left():
    idle = IdleConnections(Clock())
    unsent, wire, _ = connected()
    unsent.begin(b"POST", b"/", [])
    unsent.data_received(WHOLE)
    unread, other, _ = asked()
    unread.data_received(HEAD)
    for connection in (unsent, unread):
        idle.keep(connection)
    assert wire.closed
    assert other.closed
    assert idle.find(ORIGIN) is None


def test_connections_are_not_kept_for_long_nor_when_the_other_side_ended_them():
    clock = Clock()
    idle = IdleConnections(clock)
    old, old_wire = answered(clock=clock)
    idle.keep(old)
    clock.now = IDLE_S + 0.1
    ended, ended_wire = answered(clock=clock)
    idle.keep(ended)
    ended_wire.close()
    assert idle.find(ORIGIN) is None
    assert old_wire.closed


def test_no_more_connections_are_kept_than_a_few():
    idle = IdleConnections(Clock())
    kept = [answered() for _ in range(MAX_IDLE + 1)]
    for connection, _ in kept:
        idle.keep(connection)
    assert [wire.closed for _, wire in kept] == [False] * MAX_IDLE + [True]
    idle.close()
    assert all(wire.closed for _, wire in kept)
