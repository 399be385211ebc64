"""One real worker for all of these tests."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.server import wallet
from tests.server.conftest import new_neighbours, running_worker, until

__all__ = ["new_neighbours"]


class Watched:
    """A worker, and what the kernel says of its processes."""

    def __init__(self, worker):
        self._worker = worker

    def __getattr__(self, name):
        return getattr(self._worker, name)

    def draw(self):
        """Draw a token that it takes."""
        return wallet.draw()

    def everybody(self):
        """Every process of it."""
        roles = ("front", "keeper", "zygote", "engine")
        return {self.process.pid, *map(self.pid, roles), *self.capsules()}

    def descriptors(self, pid):
        """What a process holds open."""
        try:
            return [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        except (FileNotFoundError, ProcessLookupError):
            return []

    def status(self, pid):
        """What the kernel says of a process."""
        return Path(f"/proc/{pid}/status").read_text()


@pytest.fixture(scope="module")
def module_worker(new_neighbours):
    if os.geteuid():
        pytest.skip("the roles cannot be looked into without root")
    with running_worker(new_neighbours()) as worker:
        worker.wait_for("WorkerReady")
        until(worker.serves, worker=worker)
        yield Watched(worker)


@pytest.fixture
def running():
    """A worker of the test's own that serves: `with running(neighbours, setting=value)`."""

    @contextmanager
    def start(neighbours, **settings):
        with running_worker(neighbours, **settings) as worker:
            worker.wait_for("WorkerReady")
            until(worker.serves, worker=worker)
            yield worker

    return start
