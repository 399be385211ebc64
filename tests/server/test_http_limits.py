"""Slow and early: what a connection to the front may take, and that early answers can be read."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import pytest
import uvicorn

from server import http_limits


async def echo(scope, receive, send):
    """Answers a POST to /early at once, one to /flood with much, others when they were read."""
    while scope["path"] == "/late" and (await receive()).get("more_body", False):
        pass
    body = bytes(1 << 26) if scope["path"] == "/flood" else b"reason"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def front(monkeypatch):
    """An address where `echo` is served as the front serves the gateway; its connections."""
    monkeypatch.setattr(http_limits, "HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(http_limits, "UNREAD_TIMEOUT_S", 0.3)
    app = http_limits.Lingering(echo)
    server = uvicorn.Server(
        uvicorn.Config(app, http=http_limits.Connection, lifespan="off", log_config=None)
    )
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
    thread.start()
    yield listener.getsockname(), server.server_state.connections
    server.should_exit = True
    thread.join()


def rest(sock):
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := sock.recv(65536):
            data += more
    return data


@pytest.mark.parametrize("begin", [b"", b"POST /ga"])
def test_a_header_section_has_its_time(front, begin):
    with socket.create_connection(front[0], timeout=10) as sock:
        sock.sendall(begin)
        assert rest(sock) == b""


@pytest.mark.parametrize("length", [10, 20 << 20])
def test_an_early_answer_can_be_read_by_who_writes_first(front, length):
    with socket.create_connection(front[0], timeout=10) as sock:
        sock.sendall(b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % length)
        sock.sendall(bytes(length))
        answer = rest(sock)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    assert answer.endswith(b"reason")


def test_an_answer_to_a_request_that_was_read_leaves_the_connection_open(front):
    with socket.create_connection(front[0], timeout=10) as sock:
        for _ in range(2):
            sock.sendall(b"POST /late HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc")
            answer = b""
            while not answer.endswith(b"reason"):
                answer += sock.recv(65536)
            assert b"connection: close" not in answer


def test_an_answer_that_nobody_reads_ends(front):
    address, connections = front
    with socket.create_connection(address, timeout=10) as sock:
        sock.sendall(b"POST /flood HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        assert sock.recv(1) == b"H"
        deadline = time.monotonic() + 10
        while connections and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not connections
