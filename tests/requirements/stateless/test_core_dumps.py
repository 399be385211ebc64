"""Whoever kills a role with the worst of signals gets no picture of its memory."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from memory_search import can_read_others

from tests.server import wallet
from tests.server.conftest import until

ROOT = Path(__file__).parents[3]
DIE = """
import os, resource, signal, sys
if sys.argv[1] == "hardened":
    from server.hardening import harden
    harden()
else:
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
os.chdir(sys.argv[2])
os.kill(os.getpid(), signal.SIGSEGV)
"""


def dumped(how, folder):
    """Kill a process and return whether the kernel says that it dumped core."""
    process = subprocess.Popen([sys.executable, "-c", DIE, how, str(folder)], cwd=ROOT)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = 0
    assert os.WTERMSIG(status) == signal.SIGSEGV
    return os.WCOREDUMP(status)


def test_a_hardened_process_dumps_no_core_where_others_do(tmp_path):
    assert not dumped("hardened", tmp_path)
    assert not list(tmp_path.iterdir())
    if not dumped("open", tmp_path):
        pytest.skip("this machine dumps no core of anybody: nothing more to show")


@pytest.mark.parametrize("role", ["engine", "keeper", "front", "zygote", "capsule"])
def test_no_role_leaves_a_core(start_worker, role):
    if not can_read_others():
        pytest.skip("which files a process could have written needs root")
    with start_worker() as worker, ThreadPoolExecutor(1) as executor:
        worker.wait_for("WorkerReady")
        until(worker.serves, worker=worker)
        idle = worker.capsules()
        sent = worker.encapsulate({"held": True}, tokens=(wallet.draw(),))
        answer = executor.submit(worker.post_raw, sent.encapsulated, sent.media_type)
        until(lambda: "submit" in worker.journal(), worker=worker)
        pids = idle & worker.capsules() if role == "capsule" else {worker.pid(role)}
        places = {Path(f"/proc/{pid}/cwd").readlink() for pid in pids} | {worker.folder}
        before = cores(places)
        for pid in pids:
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert "Max core file size        0                    0" in limits
            os.kill(pid, signal.SIGSEGV)
        if role == "capsule":
            until(lambda: len(worker.logged("CapsuleCrashed")) == len(pids), worker=worker)
            assert {line["code"] for line in worker.logged("CapsuleCrashed")} == {-11}
        else:
            worker.process.wait(20)
            assert (role, -11) in [(e["role"], e["code"]) for e in worker.logged("RoleEnded")]
        assert cores(places) == before
        answer.exception(20)  # the request ends, this way or another


def cores(places):
    return {path for place in places for path in place.glob("core*") if path.is_file()}
