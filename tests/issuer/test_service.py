"""Both services as processes: their sockets, their end, and what outlives them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from issuer.accounts import add_account
from issuer.errors import SocketInUse
from issuer.service import listen_unix

SERVE_SPENT = """
import sys
from pathlib import Path
from issuer.spent import SpentConfig, serve_spent
serve_spent(SpentConfig(Path(sys.argv[1]), sys.argv[2]))
"""
SERVE_ISSUER = """
import sys
from pathlib import Path
from issuer.app import IssuerConfig, serve
serve(IssuerConfig("127.0.0.1", int(sys.argv[1]), sys.argv[2], (Path(sys.argv[3]),), "issuer.test"))
"""
SPEND = {"spend_id": "0f" * 16, "key_id": "2e" * 32, "rows": ["3d" * 32]}


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()


def wait_for_health(client: httpx.Client, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail(
        f"the service did not start: {child.stdout.read().decode() if child.poll() else ''}"
    )


def stop(child: subprocess.Popen[bytes], number: signal.Signals) -> str:
    child.send_signal(number)
    output, _ = child.communicate(timeout=20)
    return output.decode()


def unix_client(path: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://spent")


def test_a_spent_token_outlives_a_killed_store_and_a_stopped_one_leaves_no_socket(
    tmp_path: Path, sqlite_url: str
) -> None:
    path = tmp_path / "spent.sock"
    with process(SERVE_SPENT, path, sqlite_url) as child, unix_client(path) as client:
        wait_for_health(client, child)
        assert path.stat().st_mode & 0o777 == 0o600
        assert client.post("/spend", json=SPEND).status_code == 200
        child.kill()
        child.wait()
    assert path.exists()
    with process(SERVE_SPENT, path, sqlite_url) as child, unix_client(path) as client:
        wait_for_health(client, child)
        assert client.post("/spend", json=SPEND | {"spend_id": "aa" * 16}).status_code == 409
        assert client.post("/spend", json=SPEND).status_code == 200
        assert stop(child, signal.SIGTERM) == ""
        assert child.returncode == 0
    assert not path.exists()


def test_the_issuer_serves_ends_on_sigint_and_logs_no_account_key(
    tmp_path: Path, sqlite_url: str, issuer_pem: bytes
) -> None:
    key_file = tmp_path / "issuer.pem"
    period = b"Not-Before: 2020-01-01T00:00:00Z\nNot-After: 2120-01-01T00:00:00Z\n"
    key_file.write_bytes(period + issuer_pem)
    account_key = add_account(sqlite_url, 1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    headers = {
        "authorization": f"Bearer {account_key}",
        "content-type": "application/private-token-request",
    }
    with (
        process(SERVE_ISSUER, port, sqlite_url, key_file) as child,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        wait_for_health(client, child)
        bodies = [b"\0\2\x08" + bytes(256)] * 2 + [bytes(100_000)]
        responses = [
            client.post("/token-request", content=body, headers=headers) for body in bodies
        ]
        assert [response.status_code for response in responses] == [200, 403, 422]
        assert not {"server", "date"} & set(responses[0].headers)
        assert stop(child, signal.SIGINT) == ""
        assert child.returncode == 0


def test_a_service_that_cannot_start_says_so_and_removes_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "spent.sock"
    with process(SERVE_SPENT, path, f"sqlite:///{tmp_path}/missing/spent.sqlite") as child:
        output, _ = child.communicate(timeout=30)
    assert child.returncode != 0
    assert b"StartFailed" in output
    assert not path.exists()


def test_the_socket_of_a_running_process_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "spent.sock"
    with listen_unix(path):
        with pytest.raises(SocketInUse, match="running process"), listen_unix(path):
            pass
        assert path.is_socket()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "spent.sock"
    path.write_text("mine")
    with pytest.raises(SocketInUse, match="not a socket"), listen_unix(path):
        pass
    assert path.read_text() == "mine"


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "spent.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with listen_unix(path):
        assert path.stat().st_mode & 0o777 == 0o600
