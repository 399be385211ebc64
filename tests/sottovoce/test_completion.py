"""Completion: the words are the program's own, and the shells accept their scripts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sottovoce.cli import COMMANDS
from sottovoce.completion import SCRIPTS, candidates

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], sorted(COMMANDS)),
        ([""], sorted(COMMANDS)),
        (["wo"], ["worker"]),
        (["nonsense", ""], []),
        (["verify", "rec"], ["receipt"]),
        (["log", "publish", "issuer"], ["issuer-key"]),
        (["verify", "evidence", "--kin"], ["--kind"]),
        (["bench", "engine", "--shape", ""], ["0.5b", "tiny10m"]),
        (["proxy", "--accept", "sim"], ["simulated"]),
        (["proxy", "--trust", ""], []),
        (["chat", "--js"], ["--json"]),
        (["completion", "z"], ["zsh"]),
        (["bench", "work"], []),
    ],
)
def test_what_could_come_next(words, found):
    assert candidates(words) == found


def test_every_shell_has_a_script_that_asks_the_program():
    assert set(SCRIPTS) == {"bash", "zsh", "fish"}
    assert all("sottovoce completion words --" in script for script in SCRIPTS.values())


@pytest.fixture
def path(tmp_path):
    """A PATH with `sottovoce` as it is here."""
    program = tmp_path / "sottovoce"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m sottovoce "$@"\n')
    program.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


def run(program, path):
    return subprocess.run(
        program, env={"PATH": path}, capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()


def test_bash_completes(path):
    line = (
        'eval "$(sottovoce completion bash)"; COMP_WORDS=(sottovoce verify ""); COMP_CWORD=2; '
        'COMP_WORDS[2]=po; _sottovoce; echo "${COMPREPLY[@]}"'
    )
    assert run(["bash", "-c", line], path) == ["policy"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_accepts_its_script(path):
    line = 'compdef() { :; }; eval "$(sottovoce completion zsh)"; whence -w _sottovoce'
    assert run(["zsh", "-f", "-c", line], path) == ["_sottovoce:", "function"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(path):
    line = "sottovoce completion fish | source; complete --do-complete 'sottovoce verify po'"
    assert run(["fish", "--no-config", "-c", line], path) == ["policy"]
