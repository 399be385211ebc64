"""The direct port of a whole worker: plain HTTPS clients, TLS that ends inside a capsule."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.bundle import Bundle
from tests.server.conftest import Worker, free_port, running_worker, until
from tests.support.tap import Tap
from wire.key_document import KeyDocument
from wire.receipt import ResponseHash, request_hash, verify, without_attestation

KEY = "sk-sottovoce-test"
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def direct(new_neighbours: Any) -> Iterator[Worker]:
    settings = {
        "port": free_port(),
        "keys": [hashlib.sha256(key.encode()).hexdigest() for key in ("sk-other", KEY)],
        "max_capsules": 6,
        "max_requests": 2,
        "handshake_timeout_s": 2.0,
    }
    with running_worker(new_neighbours(), direct=settings) as worker:
        worker.wait_for("WorkerReady")
        until(lambda: len(worker.capsules()) >= 3, worker=worker)
        yield worker
        assert worker.process.poll() is None, (worker.folder / "worker.log").read_text()


@pytest.fixture
def port(direct: Worker) -> int:
    return json.loads((direct.folder / "config.json").read_text())["direct"]["port"]


def context(**changes: Any) -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def connect(port: int, **changes: Any) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    return context(**changes).wrap_socket(raw, server_hostname="sottovoce.invalid")


def encode(order: dict[str, Any], *, key: str = KEY, extra: str = "") -> bytes:
    body = json.dumps(order).encode()
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n{extra}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def ask(port: int, request: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    with closing(connect(port)) as client:
        client.sendall(request)
        return split(read_all(client))


def read_all(client: socket.socket) -> bytes:
    parts = []
    while part := client.recv(65536):  # raises unless it ends with a close_notify
        parts.append(part)
    return b"".join(parts)


def read_into(client: socket.socket, received: bytearray) -> None:
    while part := client.recv(65536):
        received += part


def split(answer: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    fields = {}
    for line in lines:
        name, _, value = line.partition(b": ")
        assert name.lower() not in fields, "a field is there once"
        fields[name.lower()] = value
    if fields.get(b"transfer-encoding") == b"chunked":
        body = unchunk(body)
    return int(first.split()[1]), fields, body


def unchunk(body: bytes) -> bytes:
    content = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if size == b"0":
            return content
        content += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


def pin(worker: Worker) -> str:
    assert worker.document.tls_key is not None
    return f"sha256//{base64.b64encode(worker.document.tls_key).decode()}"


def curl(port: int, path: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = ["curl", "-sS", "-k", "--noproxy", "*", "--max-time", "20", *arguments]
    return subprocess.run(
        [*command, f"https://127.0.0.1:{port}{path}"], capture_output=True, check=False
    )


def check(worker: Worker, body: bytes, payloads: list[bytes], carrier: bytes) -> Any:
    """Check the receipt as a client of the direct port would; return the member."""
    hashed, attestation = without_attestation(carrier)
    member = json.loads(attestation)
    salts = {name: base64.b64decode(salt) for name, salt in member["salts"].items()}
    signed = verify(base64.b64decode(member["receipt"]), worker.document.receipt_key)
    assert signed.request_hash == request_hash(salts["request"], PATH.encode(), body)
    response = ResponseHash(salts["response"])
    for payload in payloads:
        response.add(hashed if payload == carrier else payload)
    assert signed.response_hash == response.digest()
    assert signed.key_document == worker.document.digest
    return member


def test_curl_with_the_pinned_key_gets_a_completion_whose_receipt_checks(direct, port):
    body = json.dumps({"tokens": 4, "prompt": "hello"})
    done = curl(
        port, PATH, "--pinnedpubkey", pin(direct), "-H", f"authorization: Bearer {KEY}", "-d", body
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ids"] == [0, 1, 2, 3]
    member = check(direct, body.encode(), [done.stdout], done.stdout)
    bundle = Bundle.decode(direct.neighbours.log.bundles[-1])
    assert base64.b64decode(member["quote"]) == bundle.quote
    assert {"step": "T", "outcome": "fail"}.items() <= member["verification"][-1].items()
    assert "address" in member["verification"][-1]["reason"]
    assert all(step["outcome"] != "pass" for step in member["verification"])


def test_curl_with_another_pin_sends_nothing(port):
    other = base64.b64encode(bytes(32)).decode()
    done = curl(port, PATH, "--pinnedpubkey", f"sha256//{other}", "-d", "{}")

    assert done.returncode == 90  # CURLE_SSL_PINNEDPUBKEYNOTMATCH


def test_the_certificate_is_of_the_key_that_the_document_binds(direct, port):
    with closing(connect(port)) as client:
        certificate = x509.load_der_x509_certificate(client.getpeercert(binary_form=True))
        assert client.version() == "TLSv1.3"
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert hashlib.sha256(spki).digest() == direct.document.tls_key


def test_a_stream_comes_event_by_event_with_its_receipt(direct, port):
    order = {"tokens": 3, "stream": True, "prompt": "hello"}
    status, fields, body = ask(port, encode(order))

    assert status == 200
    assert fields[b"content-type"] == b"text/event-stream"
    assert fields[b"connection"] == b"close"
    payloads = [event.removeprefix(b"data: ") for event in body.split(b"\n\n")[:-1]]
    assert payloads[-1] == b"[DONE]"
    assert [json.loads(payload)["id"] for payload in payloads[:3]] == [0, 1, 2]
    check(direct, json.dumps(order).encode(), payloads, payloads[-2])


def test_events_are_there_before_the_answer_is_complete(port):
    with closing(connect(port)) as client:
        client.sendall(encode({"tokens": 5, "stream": True, "delay": 300}))
        started = time.monotonic()
        received = b""
        while b'"id"' not in received:
            received += client.recv(65536)
        first = time.monotonic() - started
        read_all(client)
        assert first < 0.5 * (time.monotonic() - started)


@pytest.mark.parametrize(
    "key",
    ["", "wrong", KEY + "x", KEY[:-1], f"{KEY} x"],
    ids=["none", "wrong", "longer", "shorter", "more"],
)
def test_a_wrong_key_is_401_in_openais_words(direct, port, key):
    already = direct.journal()
    status, fields, body = ask(port, encode({"prompt": "canary"}, key=key))

    assert status == 401
    error = json.loads(body)["error"]
    assert error["code"] == "invalid_api_key"
    assert set(error) == {"message", "type", "param", "code"}
    assert fields[b"www-authenticate"] == b"Bearer"
    assert b"canary" not in body
    assert direct.journal() == already


def test_no_key_and_two_keys_are_401(port):
    twice = f"authorization: Bearer {KEY}\r\n"
    assert ask(port, encode({}, extra=twice))[0] == 401
    assert ask(port, b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")[0] == 401


def test_evidence_is_there_before_a_key_is_shown(direct, port):
    status, _, body = ask(port, b"GET /v1/attestation HTTP/1.1\r\nhost: x\r\n\r\n")

    assert status == 200
    assert body == direct.neighbours.log.bundles[-1]
    document = KeyDocument.decode(Bundle.decode(body).key_document)
    assert document.tls_key == direct.document.tls_key


def test_a_nonce_is_refused_and_not_ignored(port):
    request = b"GET /v1/attestation?nonce=00 HTTP/1.1\r\nhost: x\r\n\r\n"
    status, _, body = ask(port, request)

    assert (status, json.loads(body)["error"]["code"]) == (400, "nonce_unsupported")


def test_health_names_the_node(direct, port):
    status, fields, body = ask(port, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")

    assert status == 200
    assert json.loads(body) == {"status": "ok", "node": direct.document.node}
    assert fields[b"x-request-id"].startswith(b"req_")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
        (encode({"invalid": True}), 400),
        (encode({"fail": "prepare", "prompt": "canary"}), 500),
        (encode({"fail": "run", "prompt": "canary"}), 500),
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_in_openais_words(port, request_, status):
    answered, _, body = ask(port, request_)

    assert answered == status
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert b"canary" not in body


def test_a_large_body_with_expect_is_read(port):
    body = json.dumps({"tokens": 1, "prompt": "x" * 2_000_000})
    status, _, answer = ask_expecting(port, body.encode())
    assert status == 200
    assert len(json.loads(answer)["said"]) == 2_000_000


def ask_expecting(port, body):
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
        f"authorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with closing(connect(port)) as client:
        client.sendall(head.encode())
        assert client.recv(65536) == b"HTTP/1.1 100 \r\n\r\n"
        client.sendall(body)
        return split(read_all(client))


def test_a_failure_inside_a_stream_is_told_and_the_stream_does_not_end(port):
    with closing(connect(port)) as client:
        client.sendall(encode({"stream": True, "fail": "midstream", "prompt": "canary-9"}))
        received = bytearray()
        with pytest.raises(ssl.SSLError):  # the alert
            read_into(client, received)
    assert b"internal_error" in received
    assert not received.endswith(b"0\r\n\r\n")
    assert received.count(b"canary-9") == 1  # in the event that the application sent


def test_a_client_that_goes_stops_its_generation(direct, port):
    already = direct.journal().count("erased cancel")
    client = connect(port)
    client.sendall(encode({"stream": True, "tokens": 500, "delay": 50}))
    assert client.recv(10)
    client.close()
    until(lambda: direct.journal().count("erased cancel") == already + 1, worker=direct)


def test_a_connection_serves_one_request(port):
    with closing(connect(port)) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n" * 2)
        assert read_all(client).count(b"HTTP/1.1 ") == 1


def test_nothing_can_be_resumed(port):
    shared = context()
    for _ in range(2):
        raw = socket.create_connection(("127.0.0.1", port), timeout=20)
        with closing(shared.wrap_socket(raw)) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            read_all(client)
            assert not client.session_reused
            assert client.session is None or not client.session.has_ticket


def test_older_versions_are_refused(port):
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        connect(port, maximum_version=ssl.TLSVersion.TLSv1_2)


def test_plain_http_gets_an_alert_and_nothing_else(port):
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as client:
        client.sendall(encode({"prompt": "canary"}))
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == bytes([21, 3, 3, 0, 2, 2, 10])


def test_whoever_is_silent_in_the_handshake_is_cut_off_and_others_are_served(port):
    silent = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(5)]
    silent[0].sendall(b"\x16\x03")
    assert ask(port, encode({"tokens": 1}))[0] == 200
    started = time.monotonic()
    for client in silent:
        assert client.recv(10) == b""
        client.close()
    assert time.monotonic() - started < 10


def test_whoever_is_silent_in_the_head_or_drips_it_is_cut_off(port):
    with closing(connect(port)) as client:
        client.sendall(b"GET /hea")
        with pytest.raises((ssl.SSLError, OSError)):
            drip(client, seconds=15)


def drip(client, seconds):
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        client.sendall(b"x")
        time.sleep(0.1)


def test_sixty_four_at_once_are_answered_or_told_that_there_is_no_room(port):
    statuses: list[int] = []

    def one() -> None:
        try:
            status, fields, _ = ask(port, encode({"tokens": 3, "delay": 100, "stream": True}))
            statuses.append(status if status != 503 or fields[b"retry-after"] == b"1" else -1)
        except OSError:
            statuses.append(0)  # closed without a word

    threads = [threading.Thread(target=one) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(statuses) == 64
    assert set(statuses) <= {200, 503, 0}
    assert statuses.count(200) >= 2
    assert 503 in statuses
    assert ask(port, encode({"tokens": 1}))[0] == 200


def test_nothing_in_clear_leaves_a_capsule(port):
    with Tap(port) as tap:
        status, _, answer = ask(tap.port, encode({"prompt": "a-canary-in-clear"}))
    assert status == 200
    assert b"a-canary-in-clear" in answer
    for canary in (b"canary", KEY.encode(), b"HTTP", b"receipt"):
        assert canary not in tap.bytes


def test_the_key_document_of_a_worker_without_the_port_has_no_tls_key(worker):
    assert worker.document.tls_key is None
    assert not any(event["role"] == "door" for event in worker.logged("RoleStarted"))


def test_a_port_that_is_taken_is_told(new_neighbours):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        settings = {"port": taken.getsockname()[1], "keys": ["00" * 32]}
        with running_worker(new_neighbours(), direct=settings) as worker:
            assert worker.process.wait(30) == 1
