"""Every party serves under its unit: the whole path, each process under its unit's filters."""

import ctypes.util
import json
import shutil
import sys
from pathlib import Path

import pytest
from path_stack import Stack

from server import landlock

UNDER = Path(__file__).parents[1] / "support" / "units.py"

pytestmark = [
    pytest.mark.xdist_group("path"),
    pytest.mark.skipif(
        not shutil.which("systemd-analyze") or not ctypes.util.find_library("seccomp"),
        reason="needs systemd's own lists of system calls, and libseccomp",
    ),
]


@pytest.fixture
def stack(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {UNDER} "$@"\n')
    python.chmod(0o700)
    stack = Stack(workers=1)
    monkeypatch.setattr("sottovoce.supervisor.sys.executable", str(python))
    try:
        stack.up.start()
        yield stack
    finally:
        stack.up.stop()


def test_every_party_serves_under_the_filters_of_its_unit(stack):
    answer = stack.chat()
    assert answer.status_code == 200, answer.text
    for name, party in stack.supervisor.parties.items():
        status = Path(f"/proc/{party.process.pid}/status").read_text()
        assert "Seccomp:\t2" in status, name  # the wrapper did what this test is about
    events = map(json.loads, stack.supervisor.parties["worker0"].log.read_text().splitlines())
    confined = {
        event["role"]: event["landlock"] for event in events if event["event"] == "RoleConfined"
    }
    assert confined.keys() == {"keeper", "front", "engine", "door"}
    assert set(confined.values()) == {landlock.version()}  # the unit leaves them Landlock
