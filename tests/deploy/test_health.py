import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

HEALTH = Path(__file__).parents[2] / "deploy" / "container" / "health.py"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(self.server.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass

    def address_string(self):
        return "a unix socket has none"


class UnixServer(HTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket.bind(self.server_address)


@contextmanager
def serving(server, status):
    server.status = status
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def probe(*arguments, **variables):
    command = [sys.executable, "-I", str(HEALTH), *arguments]
    run = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables},
    )
    return run.returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_only_200_is_healthy(status, code):
    with serving(HTTPServer(("127.0.0.1", 0), Answer), status) as server:
        assert probe(f"http://127.0.0.1:{server.server_port}/health") == code


def test_the_address_may_come_from_the_environment():
    with serving(HTTPServer(("127.0.0.1", 0), Answer), 200) as server:
        url = f"http://127.0.0.1:{server.server_port}/health"
        assert probe(SOTTOVOCE_HEALTH=url) == 0


@pytest.mark.parametrize(("status", "code"), [(200, 0), (500, 1)])
def test_a_unix_socket_is_asked(tmp_path, status, code):
    path = str(tmp_path / "socket")
    with serving(UnixServer(path, Answer), status):
        assert probe(f"unix:{path}") == code
    assert probe(f"unix:{path}") == 1  # nobody there


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1/", "unix:relative", "http:///health"])
def test_what_is_no_address_is_not_healthy(url):
    assert probe(url) == 1


def test_nobody_listening_is_not_healthy():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert probe(f"http://127.0.0.1:{free.getsockname()[1]}/health") == 1
