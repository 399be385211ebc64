"""Our TLS 1.3 server and the clients people have: OpenSSL's command line, curl, node."""

import os
import shutil
import socket
import subprocess
import threading
import time

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from server.tls_certificate import new_key, self_signed
from wire.tls13 import Identity, ServerConnection
from wire.tls13_messages import TlsFailure, to_be_signed

KEY = new_key(os.urandom)
IDENTITY = Identity(
    self_signed(KEY, os.urandom, int(time.time())),
    lambda digest: KEY.sign(to_be_signed(digest), ec.ECDSA(hashes.SHA256())),
)
ANSWER = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nhello\n"


def answer(sock, updates):
    """Answer once the blank line behind a request has come; note KeyUpdates."""
    tls, received = ServerConnection(IDENTITY, os.urandom), b""
    with sock:
        while not received.endswith(b"\n\r\n") and (data := sock.recv(65536)):
            try:
                received += tls.receive(data)
            except TlsFailure:
                sock.sendall(tls.to_send())
                return
            sock.sendall(tls.to_send())
            updates.append(tls._key_updates)
        if tls.established:
            tls.send(ANSWER)
            tls.close()
            sock.sendall(tls.to_send())


@pytest.fixture
def served():
    listener, updates = socket.create_server(("127.0.0.1", 0)), []

    def accept():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(sock, updates), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1], updates
    listener.close()


def run(*command, **options):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not here")
    return subprocess.run(command, capture_output=True, timeout=30, check=False, **options)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--curves", "P-256:X25519"),  # a share of another group first: HelloRetryRequest
        ("--tls13-ciphers", "TLS_CHACHA20_POLY1305_SHA256"),
        ("--http1.1",),
    ],
)
def test_curl(served, options):
    done = run("curl", "-sSk", "--noproxy", "*", *options, f"https://127.0.0.1:{served[0]}/")
    assert done.stdout == b"hello\n", done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--tls-max", "1.2"),
        ("--curves", "P-256"),
        ("--tls13-ciphers", "TLS_AES_256_GCM_SHA384"),
    ],
)
def test_curl_with_nothing_in_common_fails(served, options):
    done = run("curl", "-sSk", "--noproxy", "*", *options, f"https://127.0.0.1:{served[0]}/")
    assert done.returncode == 35, done.stderr  # CURLE_SSL_CONNECT_ERROR


def test_node(served):
    options = f"{{host:'127.0.0.1',port:{served[0]},rejectUnauthorized:false,agent:false}}"
    script = f"require('https').get({options},r=>r.on('data',d=>process.stdout.write(d)))"
    assert run("node", "-e", script).stdout == b"hello\n"


def test_openssl_updates_its_keys(served):
    port, updates = served
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as client:
        for line in (b"K\n", b"k\n", b"GET / HTTP/1.1\n\r\n"):
            client.stdin.write(line)
            client.stdin.flush()
            time.sleep(0.5)  # a command is a line that is read alone, and the end of all ends it
        printed = client.communicate(timeout=20)[0]
    assert b"hello" in printed
    assert max(updates) == 2
