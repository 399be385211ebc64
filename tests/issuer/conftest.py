"""Keys from the published vectors, and an empty database of either kind for every test."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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


class PostgresServer:
    """A server of the tests' own: an unprivileged user, a unix socket, no TCP, no fsync."""

    def __init__(self, programs: Path, directory: Path, user: str | None) -> None:
        self._programs = programs
        self._directory = directory
        self._user = user
        self._count = 0

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        identity: dict[str, Any] = {}
        if self._user is not None:
            group = pwd.getpwnam(self._user).pw_gid
            identity = {"user": self._user, "group": group, "extra_groups": []}
        with (self._directory / "log").open("ab") as log:
            subprocess.run(
                command,
                check=True,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"HOME": str(self._directory), "PATH": os.defpath, "LC_ALL": "C"},
                timeout=60,
                **identity,
            )

    def start(self) -> None:
        data = str(self._directory / "data")
        self.run("initdb", "-D", data, "-U", "sottovoce", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses= -c fsync=off -k {self._directory} -c shared_buffers=16MB"
        self.run("pg_ctl", "-D", data, "-w", "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self._directory / "data"), "-m", "immediate", "stop")

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
