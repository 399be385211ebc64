"""A PostgreSQL server of the benchmark's own: a unix socket, an unprivileged user, no TCP."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_START_S = 30.0


@contextlib.contextmanager
def running_postgres() -> Iterator[str | None]:
    """Start a server and yield the URL of an empty database; None where none is installed."""
    programs = _programs()
    if programs is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="sottovoce-pg-"))
    try:
        user = _user(folder)
        data = str(folder / "data")
        _run(programs, user, "initdb", "-D", data, "-U", "sottovoce", "-A", "trust", "-E", "UTF8")
        options = ("-c", "listen_addresses=", "-c", "shared_buffers=64MB")
        server = _start(programs, user, "postgres", "-D", data, "-k", str(folder), *options)
        try:
            _await(programs, user, folder)
            _run(programs, user, "createdb", "-h", str(folder), "-U", "sottovoce", "spent")
            yield f"postgresql://sottovoce@/spent?host={folder}"
        finally:
            server.send_signal(signal.SIGQUIT)  # its immediate shutdown
            server.wait()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


def _user(folder: Path) -> str | None:
    """The server refuses to run as root: then another user owns its folder."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = "postgres" if "postgres" in names else "nobody"
    shutil.chown(folder, user)
    return user


def _await(programs: Path, user: str | None, folder: Path) -> None:
    deadline = time.monotonic() + _START_S
    while _start(programs, user, "pg_isready", "-q", "-h", str(folder)).wait() != 0:
        if time.monotonic() > deadline:
            raise TimeoutError("PostgreSQL did not start")
        time.sleep(0.05)


def _run(programs: Path, user: str | None, *command: str) -> None:
    if code := _start(programs, user, *command).wait():
        raise subprocess.CalledProcessError(code, command[0])


def _start(programs: Path, user: str | None, *command: str) -> subprocess.Popen[bytes]:
    program, *arguments = command
    argv: Sequence[str] = [str(programs / program), *arguments]
    group = None if user is None else pwd.getpwnam(user).pw_gid
    return subprocess.Popen(  # noqa: S603 - PostgreSQL's own programs, no shell
        argv,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C", "HOME": "/"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
