"""A relay on loopback between a client and workers that do as they are told."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import h11
import httpx
import pytest
import uvicorn

from relay import app as relay_app
from relay.config import RelayConfig

NODE = "ab" * 32
REQUEST_TYPE = {"content-type": "message/ohttp-chunked-req"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@dataclass
class Exchange:
    """One request as the worker saw it, and the pen to answer it with."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: h11.Connection
    method: str = ""
    target: str = ""
    headers: list = field(default_factory=list)
    body: bytes = b""

    async def start(self, status=200, headers=()):
        await self._send(h11.Response(status_code=status, headers=list(headers)))

    async def send(self, data):
        await self._send(h11.Data(data=data))

    async def end(self):
        await self._send(h11.EndOfMessage())

    async def answer(self, status=200, headers=(), body=b""):
        await self.start(status, headers)
        await self.send(body)
        await self.end()

    async def gone(self):
        """Wait until the relay hangs up."""
        assert await self.reader.read(1) == b""

    async def _send(self, event):
        self.writer.write(self.connection.send(event))
        await self.writer.drain()


class FakeWorker:
    """A worker (or a log): `scripts` maps a path to what answers it; the rest is a 404."""

    def __init__(self, nodes=(NODE,)):
        self.nodes = list(nodes)
        self.exchanges = []
        self.body_began = asyncio.Event()
        self.cut_off = asyncio.Event()
        self.writers = []
        self.scripts = {"/health": self._health, "/gateway": Exchange.answer}

    async def _health(self, exchange):
        await exchange.answer(body=json.dumps({"status": "ok", "nodes": self.nodes}).encode())

    async def _serve(self, reader, writer):
        connection = h11.Connection(h11.SERVER)
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while connection.our_state is h11.IDLE:
                exchange = Exchange(reader, writer, connection)
                if not await self._read(exchange):
                    break
                if exchange.target != "/health":
                    self.exchanges.append(exchange)
                script = self.scripts.get(exchange.target, lambda each: each.answer(404))
                await script(exchange)
                if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
                    connection.start_next_cycle()
        writer.close()

    async def _read(self, exchange):
        while True:
            event = exchange.connection.next_event()
            if event is h11.NEED_DATA:
                data = await exchange.reader.read(65536)
                try:
                    exchange.connection.receive_data(data)
                except h11.RemoteProtocolError:
                    data = b""
                if not data:
                    if exchange.method:
                        self.cut_off.set()
                    return False
            elif isinstance(event, h11.Request):
                exchange.method, exchange.target = event.method.decode(), event.target.decode()
                exchange.headers = [
                    (name.decode(), value.decode()) for name, value in event.headers
                ]
            elif isinstance(event, h11.Data):
                exchange.body += bytes(event.data)
                self.body_began.set()
            else:
                return isinstance(event, h11.EndOfMessage)

    @contextlib.asynccontextmanager
    async def running(self, ssl_context=None):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=ssl_context)
        port = server.sockets[0].getsockname()[1]
        self.url = f"{'https' if ssl_context else 'http'}://127.0.0.1:{port}"
        try:
            yield self
        finally:
            server.close()
            for writer in self.writers:
                writer.close()


@contextlib.asynccontextmanager
async def running_relay(config):
    settings = relay_app._server_config(config)
    settings.load()
    server = uvicorn.Server(settings)
    server.lifespan = settings.lifespan_class(settings)
    scheme = "https" if config.certificate else "http"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # What `serve` does, without its signal handlers and its tenth of a second a turn.
        await server.startup(sockets=[listener])
        try:
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await server.shutdown(sockets=[listener])


def config_for(*workers, log=None, **changes):
    defaults = {"poll_interval_s": 60.0, "drain_timeout_s": 1}
    return RelayConfig(
        "127.0.0.1",
        0,
        tuple(worker.url for worker in workers),
        log.url if log else "http://127.0.0.1:9",
        **(defaults | changes),
    )


@dataclass
class Setup:
    worker: FakeWorker
    client: httpx.AsyncClient
    url: str

    def post(self, node=NODE, content=b"request", headers=REQUEST_TYPE):
        return self.client.post(f"/{node}", content=content, headers=headers)

    def stream(self, content=b"request"):
        return self.client.stream("POST", f"/{NODE}", content=content, headers=REQUEST_TYPE)


@pytest.fixture
def relay_between():
    """A relay with one worker, and a client: `async with relay_between(script, ...) as setup`."""

    @contextlib.asynccontextmanager
    async def between(script=None, **changes):
        worker = FakeWorker()
        if script:
            worker.scripts["/gateway"] = script
        async with (
            worker.running(),
            running_relay(config_for(worker, **changes)) as url,
            httpx.AsyncClient(base_url=url, trust_env=False) as client,
        ):
            yield Setup(worker, client, url)

    return between


SERVE = """
import sys
from relay.app import serve
from relay.config import RelayConfig
url, port, changes = sys.argv[1:]
serve(RelayConfig("127.0.0.1", int(port), (url,), url, **eval(changes)))
"""


@dataclass
class RelayProcess:
    """A relay in a process of its own, and everything it writes."""

    process: subprocess.Popen
    port: int
    folder: Path

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def written(self):
        return b"".join(path.read_bytes() for path in self.folder.rglob("*") if path.is_file())

    def kib(self, field):
        """A line of the kernel's account of its memory: VmRSS, or VmHWM, the most it ever was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0])

    def forget_peak(self):
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port)


async def healthy(port):
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(400):
            with contextlib.suppress(httpx.TransportError):
                answer = await client.get(f"http://127.0.0.1:{port}/health")
                if answer.json()["nodes"]:
                    return
            await asyncio.sleep(0.05)
    raise AssertionError("the relay did not start")


@pytest.fixture
def relay_process(tmp_path):
    """A relay as a real process: `async with relay_process(worker, ...) as relay`."""

    @contextlib.asynccontextmanager
    async def started(worker, **changes):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        arguments = [worker.url, str(port), repr(changes)]
        with (tmp_path / "output").open("wb") as output:
            process = subprocess.Popen(  # noqa: ASYNC220 - its start is over in a moment
                [sys.executable, "-c", SERVE, *arguments],
                stdout=output,
                stderr=output,
                env={"PYTHONPATH": str(Path.cwd()), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
            )
        try:
            await healthy(port)
            yield RelayProcess(process, port, tmp_path)
        finally:
            process.kill()
            process.wait()

    return started


@pytest.fixture
def fakes():
    """The parts, for tests that put them together themselves."""
    return FakeWorker, running_relay, config_for
