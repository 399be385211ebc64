import asyncio
import contextlib
import datetime as dt
import ipaddress
import logging
import signal
import ssl
import subprocess
import sys

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from relay import app as relay_app
from relay import logs as relay_logs
from relay.config import RelayConfig

pytestmark = pytest.mark.anyio

NODE = "ab" * 32
REQUEST_TYPE = {"content-type": "message/ohttp-req"}


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1 that is its own authority: the PEM files of it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay test")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private_key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, private_key


async def test_https_runs_on_both_sides(fakes, certificate):
    fake_worker, running_relay, config_for = fakes
    chain, key = certificate
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(chain, key)
    worker = fake_worker()
    files = {"certificate": chain, "private_key": key, "authorities": chain}
    async with (
        worker.running(tls),
        running_relay(config_for(worker, **files)) as url,
        httpx.AsyncClient(verify=ssl.create_default_context(cafile=chain)) as client,
    ):
        assert url.startswith("https://")
        response = await client.post(f"{url}/{NODE}", content=b"x", headers=REQUEST_TYPE)
        assert response.status_code == 200
        assert worker.url.startswith("https://")


async def test_a_worker_with_a_certificate_of_nobody_is_not_spoken_to(fakes, certificate):
    fake_worker, running_relay, config_for = fakes
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    worker = fake_worker()
    async with (
        worker.running(tls),
        running_relay(config_for(worker)) as url,
        httpx.AsyncClient() as client,
    ):
        response = await client.post(f"{url}/{NODE}", content=b"x", headers=REQUEST_TYPE)
        assert response.status_code == 404
        assert worker.exchanges == []


async def test_health_says_how_many_nodes_are_known(relay_between):
    async with relay_between() as setup:
        response = await setup.client.get("/health")
        assert response.json() == {"status": "ok", "nodes": 1}
        assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/" + NODE, 405),
        ("PUT", "/" + NODE, 405),
        ("GET", "/", 404),
        ("POST", f"/{NODE}/", 404),
        ("POST", f"/x/{NODE}", 404),
        ("GET", "/docs", 405),
        ("GET", "/tile/0/0", 404),
    ],
)
async def test_everything_else_is_a_problem_document(relay_between, method, path, status):
    async with relay_between() as setup:
        response = await setup.client.request(method, path, headers=REQUEST_TYPE)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == status


def test_serving_silences_what_would_log_fields_and_addresses(monkeypatch):
    seen = {}

    def run(server, sockets):
        assert len(sockets) == 1
        seen["config"] = server.config
        server.started = True

    monkeypatch.setattr(relay_app.uvicorn.Server, "run", run)
    relay_app.serve(RelayConfig("127.0.0.1", 0, (), "http://127.0.0.1:9"))
    config = seen["config"]
    assert not config.access_log
    assert not config.server_header
    assert not config.date_header
    assert not config.proxy_headers
    assert not logging.getLogger("httpcore").isEnabledFor(logging.INFO)


def test_a_service_that_cannot_start_says_so(monkeypatch):
    monkeypatch.setattr(relay_app.uvicorn.Server, "run", lambda *_, **__: None)
    with pytest.raises(relay_app.StartFailed):
        relay_app.serve(RelayConfig("127.0.0.1", 0, (), "http://127.0.0.1:9"))


def test_the_event_loop_reports_failures_without_detail(caplog):
    context = {"exception": ValueError("canary"), "transport": "canary", "message": "canary"}
    relay_logs.log_without_detail(None, context)
    relay_logs.log_without_detail(None, {"message": "canary"})
    assert [record.getMessage() for record in caplog.records] == [
        "unhandled ValueError in the event loop",
        "unhandled NoneType in the event loop",
    ]


SERVE = """
import sys
from relay.app import serve
from relay import logs as relay_logs
from relay.config import RelayConfig
serve(RelayConfig("127.0.0.1", int(sys.argv[1]), (sys.argv[2],), sys.argv[2], drain_timeout_s=10))
"""


def free_port():
    with contextlib.closing(relay_app.socket.create_server(("127.0.0.1", 0))) as listener:
        return listener.getsockname()[1]


async def healthy(client):
    for _ in range(200):
        with contextlib.suppress(httpx.TransportError):
            return (await client.get("/health")).json()
        await asyncio.sleep(0.05)
    raise AssertionError("the relay did not start")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_running_requests_finish(fakes, number):
    fake_worker = fakes[0]
    worker, may_end = fake_worker(), asyncio.Event()

    async def script(exchange):
        await exchange.start()
        await exchange.send(b"one")
        await may_end.wait()
        await exchange.send(b"two")
        await exchange.end()

    worker.scripts["/gateway"] = script
    port = free_port()
    async with (
        worker.running(),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        relay = subprocess.Popen(  # noqa: ASYNC220 - a process of its own gets the signal
            [sys.executable, "-c", SERVE, str(port), worker.url], stderr=subprocess.PIPE
        )
        try:
            assert await healthy(client) == {"status": "ok", "nodes": 1}
            async with client.stream("POST", f"/{NODE}", headers=REQUEST_TYPE) as response:
                pieces = response.aiter_raw()
                assert await anext(pieces) == b"one"
                relay.send_signal(number)
                while True:  # it listens no more, and carries the stream on
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except ConnectionRefusedError:
                        break
                    writer.close()
                    await asyncio.sleep(0.05)
                may_end.set()
                assert [piece async for piece in pieces] == [b"two"]
            status = await asyncio.to_thread(relay.wait, 10)
            assert status == 0
            assert relay.stderr.read() == b""
        finally:
            relay.kill()
            relay.wait()
            relay.stderr.close()
