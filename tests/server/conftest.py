"""A real worker: its own processes, with a fake application and a fake engine inside."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server import wallet
from tests.server.neighbours import FakeIssuer, FakeLog, FakeSpentStore
from wire.hpke import Kem
from wire.key_document import KeyDocument

START_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Neighbours:
    issuer: FakeIssuer
    log: FakeLog
    spent: FakeSpentStore


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    neighbours: Neighbours
    folder: Path
    url: str
    already: int

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        text = (self.folder / "worker.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log_lines if line["event"] == event]

    def wait_for(self, event: str, count: int = 1, seconds: float = START_S) -> None:
        until(lambda: len(self.logged(event)) >= count, seconds, self)

    def journal(self) -> list[str]:
        path = self.folder / "engine.journal"
        return path.read_text().splitlines() if path.exists() else []

    def let_go(self) -> None:
        """Let the engine go on with every sequence that is held, now and later."""
        (self.folder / "engine.go").touch()

    def pid(self, role: str) -> int:
        return int(next(e["pid"] for e in self.logged("RoleStarted") if e["role"] == role))

    @property
    def document(self) -> KeyDocument:
        return self.neighbours.log.documents[self.already]

    def ask(
        self, order: dict[str, Any], *, chunked: bool = True, price: int = 1
    ) -> tuple[wallet.Sent, Any]:
        """Send an order with fresh tokens; return the opened answer."""
        tokens = tuple(wallet.draw() for _ in range(price))
        sent = self.encapsulate(order, chunked=chunked, tokens=tokens)
        return sent, sent.open(self.post(sent).content)

    def encapsulate(
        self, order: dict[str, Any], *, chunked: bool = True, tokens: tuple[Any, ...] = ()
    ) -> wallet.Sent:
        config = wallet.config_of(self.document, Kem.XWING)
        return wallet.send(config, wallet.inner_request(order, tokens=tokens), chunked=chunked)

    def post(self, sent: wallet.Sent, **arguments: Any) -> httpx.Response:
        response = self.post_raw(sent.encapsulated, sent.media_type, **arguments)
        assert response.status_code == 200, response.status_code
        return response

    def post_raw(self, body: bytes, media_type: str, **arguments: Any) -> httpx.Response:
        return httpx.post(
            f"{self.url}/gateway",
            content=body,
            headers={"content-type": media_type},
            trust_env=False,
            timeout=30,
            **arguments,
        )

    def serves(self) -> bool:
        """Whether the front answers and has a generation to serve."""
        try:
            return httpx.get(f"{self.url}/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False  # it does not listen yet

    def metrics(self) -> str:
        return httpx.get(f"{self.url}/metrics", trust_env=False).text

    def capsules(self) -> set[int]:
        zygote = self.pid("zygote")
        children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
        return {int(pid) for pid in children}


def until(
    condition: Callable[[], bool], seconds: float = 20.0, worker: Worker | None = None
) -> None:
    """Wait for a condition; fail after `seconds`, or as soon as the worker has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        ended = worker is not None and worker.process.poll() is not None
        if ended or time.monotonic() > deadline:
            text = (worker.folder / "worker.log").read_text() if worker else ""
            pytest.fail(f"waited in vain\n{text}")
        time.sleep(0.02)


@contextmanager
def running_worker(neighbours: Neighbours, **settings: Any) -> Iterator[Worker]:
    """Start a worker and stop it at the end; it may not be ready yet."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        (folder / "seed").write_text("11" * 32 + "\n")
        members = {
            "model": name,
            "model_name": "tiny",
            "host": "127.0.0.1",
            "port": port,
            "log_url": neighbours.log.url,
            "issuer_url": neighbours.issuer.url,
            "issuer_name": wallet.ISSUER_NAME,
            "spent_socket": str(neighbours.spent.path),
            "platform_seed": str(folder / "seed"),
            "pool": 2,
            "spent_timeout_s": 0.5,
            **settings,
        }
        (folder / "config.json").write_text(json.dumps(members))
        environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
        with (folder / "worker.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.server.worker_main", str(folder / "config.json")],
                stderr=log,
                env=environment,
            )
        already = len(neighbours.log.documents)
        worker = Worker(process, neighbours, folder, f"http://127.0.0.1:{port}", already)
        try:
            yield worker
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


@pytest.fixture(scope="session")
def new_neighbours() -> Iterator[Callable[[], Neighbours]]:
    with ExitStack() as stack:

        def start() -> Neighbours:
            # A unix socket's path has 108 bytes; pytest's own folders can be longer.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            return Neighbours(
                stack.enter_context(FakeIssuer()),
                stack.enter_context(FakeLog()),
                stack.enter_context(FakeSpentStore(folder / "spent")),
            )

        yield start


@pytest.fixture(scope="session")
def shared_worker(new_neighbours: Callable[[], Neighbours]) -> Iterator[Worker]:
    with running_worker(new_neighbours()) as worker:
        worker.wait_for("WorkerReady")
        until(worker.serves, worker=worker)
        yield worker


@pytest.fixture
def worker(shared_worker: Worker) -> Iterator[Worker]:
    """The worker that most tests share; none may leave it worse than it was."""
    shared_worker.neighbours.spent.mode = "ok"
    yield shared_worker
    print((shared_worker.folder / "worker.log").read_text())  # noqa: T201 - shown on failure
    assert shared_worker.process.poll() is None, "the worker ended"


@pytest.fixture
def start_worker(new_neighbours: Callable[[], Neighbours]) -> Callable[..., Any]:
    """Start a worker of the test's own: `with start_worker(setting=value) as worker`."""

    def start(neighbours: Neighbours | None = None, **settings: Any) -> Any:
        return running_worker(neighbours or new_neighbours(), **settings)

    return start
