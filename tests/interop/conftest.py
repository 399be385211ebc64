"""The node programs of this folder as peers to call: JSON lines over their standard streams."""

import contextlib
import json
import select
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ANSWER_TIMEOUT_S = 60
OLDEST_NODE = 20
MISSING = "Node 20 and the npm peers are not installed: run `npm ci --prefix tests/interop`"


class Refused(Exception):
    """The peer answered with an error: it does not accept what it was given."""


class Peer:
    """One running program. Bytes travel as hexadecimal; an answer is as the program gave it."""

    def __init__(self, process):
        self._process = process

    def call(self, operation, **parameters):
        """Ask for one operation. Raises Refused if the peer's own code raised."""
        line = json.dumps({"operation": operation, **parameters}, default=bytes.hex)
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pytest.fail("the program has ended; why is on the standard error of an earlier call")
        if not select.select([self._process.stdout], [], [], ANSWER_TIMEOUT_S)[0]:
            pytest.fail(f"no answer within {ANSWER_TIMEOUT_S} s")
        answer = json.loads(self._process.stdout.readline() or b"null")
        if answer is None:
            pytest.fail("the program has ended; why is on its standard error")
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]


@contextlib.contextmanager
def running(program):
    """Run a program of this folder; it ends by itself when its standard input does."""
    command = ["node", "--no-warnings", HERE / program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Peer(process)
        finally:
            with contextlib.suppress(BrokenPipeError):  # it has ended before
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()


def node_version():
    """The major version of Node, 0 without one."""
    if shutil.which("node") is None:
        return 0
    printed = subprocess.run(["node", "--version"], capture_output=True, check=True, text=True)
    return int(printed.stdout.lstrip("v").partition(".")[0])


def installed():
    """Say whether Node and every package of package.json, in its exact version, are here."""
    if node_version() < OLDEST_NODE:
        return False
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    manifests = {name: HERE / "node_modules" / name / "package.json" for name in wanted}
    return all(
        path.exists() and json.loads(path.read_text())["version"].lstrip("v") == wanted[name]
        for name, path in manifests.items()
    )


@pytest.fixture(scope="session")
def peer():
    """A function that returns the named program, running; each is started once."""
    if not installed():
        pytest.skip(MISSING)
    started = {}
    with contextlib.ExitStack() as stack:

        def start(program):
            if program not in started:
                started[program] = stack.enter_context(running(program))
            return started[program]

        yield start


@pytest.fixture(scope="session")
def refused():
    """The error of a peer that does not accept what it was given."""
    return Refused
