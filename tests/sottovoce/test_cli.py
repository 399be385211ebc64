"""The command line: every command is there, imports only its own, and says what it takes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sottovoce.cli import COMMANDS

ROOT = Path(__file__).parents[2]


def sottovoce(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "sottovoce", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_command():
    run = sottovoce("--help")
    assert run.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"^\s*{name}\s", run.stdout, re.MULTILINE)


@pytest.mark.parametrize("arguments", [(), ("nonsense",)])
def test_no_or_an_unknown_command_is_a_usage_error(arguments):
    run = sottovoce(*arguments)
    assert run.returncode == 2
    assert "usage" in run.stdout + run.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    run = sottovoce(name, "--help")
    assert run.returncode == 0, run.stderr
    assert "Usage" in run.stdout


def test_there_is_a_module_for_each_command_and_no_other():
    modules = {path.stem for path in (ROOT / "sottovoce" / "commands").glob("*.py")}
    assert modules - {"__init__"} == set(COMMANDS)


@pytest.mark.parametrize("command", ["proxy", "relay", "issuer", "spent", "witness", "verify"])
def test_only_the_worker_ever_loads_torch(command):
    program = (
        f"import sys, sottovoce.commands.{command}; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False)
    assert run.returncode == 0


def test_an_error_in_an_option_is_said_without_a_trace(tmp_path):
    run = sottovoce(
        *("proxy", "--trust", str(tmp_path / "none.toml"), "--relay", "http://127.0.0.1:1"),
        *("--issuer", "http://127.0.0.1:1", "--account-key", "/none", "--state", str(tmp_path)),
    )
    assert run.returncode == 1
    assert "cannot read the trust file" in run.stderr
    assert "Traceback" not in run.stderr
