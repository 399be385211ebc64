"""Each role, confined, tries to get out: to files, programs, processes, networks and powers.

A fresh process takes a role's confinement as the launcher gives it, and then does everything that
an attacker with code in it would try first. Before it is confined the same attempts succeed: what
fails anyway proves nothing.
"""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from server import landlock

ROOT = Path(__file__).parents[3]
ATTACKER = ROOT / "tests" / "support" / "attacker.py"
NETWORK = {"send to anywhere by UDP", "make a unix socket"}
MAY = {
    "capsule": {"map memory"},
    "keeper": {"map memory"},
    "door": {"map memory"},
    "front": {
        "map memory", "start a thread", "connect to the issuer", "serve its port", *NETWORK
    },
    "engine": {"map memory", "start a thread", "read the model"},
    "other engine": {
        "map memory", "start a thread", "read the model", "connect to the issuer", *NETWORK
    },
}  # fmt: skip
"""All that a role is left of the attempts. The other engine stands where the issuer does here."""


def succeeded(role, folder, port=1, other=2):
    command = [sys.executable, str(ATTACKER), str(folder), str(port), str(other), role]
    ran = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return set(json.loads(ran.stdout))


@pytest.fixture
def ports():
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def test_nobody_unconfined_is_held_back(tmp_path, ports):
    free = succeeded("free", tmp_path, *ports)
    everything = set().union(*MAY.values())
    assert everything <= free
    tried = {"read a secret", "write a file", "start a program", "connect elsewhere", "list files"}
    assert tried <= free
    assert len(free) >= 20


@pytest.mark.parametrize("role", MAY)
def test_a_role_can_do_what_it_must_and_nothing_more(role, tmp_path, ports):
    if landlock.version() < 4 and role in {"front", "engine", "other engine"}:
        pytest.skip(f"this kernel's Landlock is version {landlock.version()}, not 4")
    assert succeeded(role, tmp_path, *ports) == MAY[role]
    assert not list(tmp_path.glob("written*"))
    assert (tmp_path / "model" / "config.json").read_text() == "{}"
