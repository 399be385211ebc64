"""A worker starts whole, ends whole, and refuses to start where it could not keep its promises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.server import wallet
from tests.server.conftest import until


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "\nState:\tZ" not in status


def pids(worker: object) -> set[int]:
    roles = {worker.pid(role) for role in ("front", "keeper", "zygote", "engine")}
    return roles | worker.capsules()


@pytest.mark.parametrize(
    ("role", "number"), [("keeper", signal.SIGKILL), ("front", signal.SIGTERM)]
)
def test_when_one_role_dies_the_whole_worker_ends(start_worker, role, number):
    with start_worker() as worker:
        worker.wait_for("WorkerReady")
        everybody = pids(worker)
        os.kill(worker.pid(role), number)
        assert worker.process.wait(20) == 1
        assert role in [ended["role"] for ended in worker.logged("RoleEnded")]
        until(lambda: not any(alive(pid) for pid in everybody))


def test_sigterm_ends_a_worker_cleanly_and_leaves_nothing_behind(start_worker):
    with start_worker() as worker:
        worker.wait_for("WorkerReady")
        everybody = pids(worker)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(20) == 0
        assert worker.logged("WorkerStopping")
        assert not worker.logged("RoleEnded")
        until(lambda: not any(alive(pid) for pid in everybody))


def test_when_the_launcher_is_killed_nobody_survives_it(start_worker):
    with start_worker() as worker:
        worker.wait_for("WorkerReady")
        everybody = pids(worker)
        worker.process.kill()
        until(lambda: not any(alive(pid) for pid in everybody))


def test_a_worker_waits_for_the_log_and_the_issuer_and_says_so(start_worker, new_neighbours):
    neighbours = new_neighbours()
    neighbours.log.down = neighbours.issuer.down = True
    with start_worker(neighbours) as worker:
        worker.wait_for("NeighbourWaited")
        assert worker.logged("NeighbourWaited")[0]["neighbour"] == "issuer"
        until(lambda: _health(worker.url) == 503, worker=worker)
        neighbours.issuer.down = False
        until(lambda: worker.logged("NeighbourWaited")[-1]["neighbour"] == "log", worker=worker)
        assert _health(worker.url) == 503
        neighbours.log.down = False
        worker.wait_for("WorkerReady")
        until(lambda: _health(worker.url) == 200, worker=worker)


def _health(url: str) -> int:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code
    except httpx.ConnectError:
        return 0


def test_capsules_forked_before_a_new_issuer_key_are_replaced(start_worker, new_neighbours):
    neighbours = new_neighbours()
    with start_worker(neighbours, issuer_refresh_s=0.3) as worker:
        worker.wait_for("WorkerReady")
        before = worker.capsules()
        neighbours.issuer.keys = [wallet.spki(1), wallet.spki()]
        worker.wait_for("IssuerKeysChanged", 2)
        until(lambda: len(worker.capsules() - before) == 2, worker=worker)
        sent = worker.encapsulate({}, tokens=(wallet.draw(1),))
        assert sent.open(worker.post(sent).content).status == 200


def test_a_role_that_fails_at_the_start_may_say_why_and_the_worker_ends(start_worker):
    with start_worker(host="no such host") as worker:
        assert worker.process.wait(30) == 1
        assert "front" in [ended["role"] for ended in worker.logged("RoleEnded")]
        assert worker.logged("RoleFailed")[0]["role"] == "front"


THREADS = """
import threading, time
from server.hardening import ensure_single_thread
ensure_single_thread()
threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
ensure_single_thread()
"""


def test_a_process_with_threads_does_not_fork_roles():
    ran = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, check=False
    )
    assert "HygieneError: threads were started" in ran.stderr


def test_a_child_whose_parent_has_gone_does_not_begin():
    code = "from server.hardening import die_with; die_with(1 << 22)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "HygieneError: the parent ended" in ran.stderr
