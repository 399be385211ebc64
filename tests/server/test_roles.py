"""When a role dies, the log names it, even where another one ended over its death before."""

import json
import subprocess
import sys

SCRIPT = """
import os, time
from server.logs import Role
from server.roles import RoleDied, Roles

roles = Roles()
tie, held = os.pipe()

def first():
    os.close(held)   # as a dying process lets go of its sockets before it is gone
    time.sleep(0.3)
    os._exit(7)

def second():
    os.read(tie, 1)  # ends when the first lets go

def third():
    time.sleep(60)   # ends when it is told to

roles.fork(Role.FRONT, first, held)
roles.fork(Role.KEEPER, second, tie)
roles.fork(Role.ENGINE, third)
os.close(held)
roles.all_forked()
try:
    roles.wait(30)
except RoleDied:
    roles.stop()
"""


def test_who_died_first_is_told_though_another_was_gone_before():
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60
    )
    events = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    ended = [(e["role"], e["code"]) for e in events if e["event"] == "RoleEnded"]
    assert ended == [("keeper", 0), ("front", 7)]
