"""Keys from the published vectors, and an empty database of either kind for every test."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def rfc9474() -> dict[str, Any]:
    return json.loads((HERE / "rfc9474.json").read_text())


@pytest.fixture(scope="session")
def rfc9578() -> dict[str, Any]:
    return json.loads((HERE / "rfc9578.json").read_text())


@pytest.fixture(scope="session")
def issuer_pem(rfc9578: dict[str, Any]) -> bytes:
    return bytes.fromhex(rfc9578["skS"])


@asynccontextmanager
async def _serving(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(with_state, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://issuer") as client:
            yield client


@pytest.fixture
def serving() -> Callable[[Starlette], AbstractAsyncContextManager[httpx.AsyncClient]]:
    """A function that runs an application, its lifespan too, without a socket."""
    return _serving


class PostgresServer:
    """A server of the tests' own: an unprivileged user, a unix socket, no TCP, no fsync."""

    def __init__(self, programs: Path, directory: Path, user: str | None) -> None:
        self._programs = programs
        self._directory = directory
        self._user = user
        self._count = 0

    def start(self) -> None:
        """Start it, the first time with an empty cluster; after `stop`, with what there was."""
        data = str(self._directory / "data")
        if not Path(data).exists():
            self._make(data)
        settings = ("listen_addresses=", "fsync=off", "shared_buffers=16MB")
        options = [option for setting in settings for option in ("-c", setting)]
        # A child of this process, so that it is waited for and leaves nothing behind.
        self._server = self._popen("postgres", "-D", data, "-k", str(self._directory), *options)
        deadline = time.monotonic() + 30
        while self._popen("pg_isready", "-q", "-h", str(self._directory)).wait() != 0:
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._directory / "log").read_text())
            time.sleep(0.05)

    def _make(self, data: str) -> None:
        self.run("initdb", "-D", data, "-U", "sottovoce", "-A", "trust", "-E", "UTF8", "--no-sync")

    def stop(self) -> None:
        self._server.send_signal(signal.SIGQUIT)  # PostgreSQL's immediate shutdown
        self._server.wait(30)

    def run(self, program: str, *arguments: str) -> None:
        if self._popen(program, *arguments).wait(60) != 0:
            raise RuntimeError((self._directory / "log").read_text())

    def _popen(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        identity: dict[str, Any] = {}
        if self._user is not None:
            group = pwd.getpwnam(self._user).pw_gid
            identity = {"user": self._user, "group": group, "extra_groups": []}
        with (self._directory / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self._programs / program), *arguments],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"HOME": str(self._directory), "PATH": os.defpath, "LC_ALL": "C"},
                **identity,
            )

    def new_database(self) -> str:
        self._count += 1
        name = f"test{self._count}"
        self.run("createdb", "-h", str(self._directory), "-U", "sottovoce", name)
        return f"postgresql://sottovoce@/{name}?host={self._directory}"


def _postgres_programs() -> Path | None:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


def _unprivileged_user() -> str | None:
    """The server refuses to run as root; whoever else runs the tests runs the server too."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed here: initdb is neither on PATH nor in /usr/lib")
    user = _unprivileged_user()
    # Not tmp_path: its parents are closed to other users, and a socket's path must be short.
    directory = Path(tempfile.mkdtemp(prefix="sottovoce-pg-"))
    if user is not None:
        shutil.chown(directory, user)
    server = PostgresServer(programs, directory, user)
    try:
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)


NewDatabase = Callable[[], str]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """A function that makes an empty database and returns its URL."""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.new_database
    names = iter(range(100))
    return lambda: f"sqlite:///{tmp_path}/{next(names)}.sqlite"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An empty database where the kind does not matter."""
    return f"sqlite:///{tmp_path}/any.sqlite"


@pytest.fixture
def database_url(new_database: NewDatabase) -> str:
    return new_database()
