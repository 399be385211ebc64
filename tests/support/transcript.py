"""Transcripts: commands with the output that is expected of them, read and run as a person would.

    $ sottovoce wallet              a command; lines that begin with `> ` go on with it
    tokens ...                      its output; `...` stands for anything, alone on a line for lines
    [1]                             its exit status, if that is not 0

Lines that begin with `# ` are for the reader. Commands of one transcript share a folder. Addresses
are those of `sottovoce up` with its default ports; they are translated to the running stack's.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEFAULT_BASE = 8080
_ADDRESS = re.compile(r"127\.0\.0\.1:(8\d{3})")
_STATUS = re.compile(r"\[(\d+)\]")


@dataclass
class Command:
    """A command, what it should print and how it should end."""

    text: str
    output: list[str] = field(default_factory=list)
    status: int = 0

    def matches(self, printed):
        """Whether the output is what was expected."""
        return re.fullmatch(self._pattern(), printed.rstrip("\n") + "\n") is not None

    def _pattern(self):
        lines = []
        for line in self.output:
            if line.strip() == "...":
                lines.append(r"(?:.*\n)*")
            else:
                words = re.split(r"\s+", line.strip())
                shown = r"\s+".join(re.escape(word).replace(r"\.\.\.", ".*") for word in words)
                lines.append(rf"\s*{shown}\s*\n")
        return "".join(lines) or r"\n"


def commands_of(text):
    """Read a transcript."""
    found = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif line.startswith("> ") and not found[-1].output:
            found[-1].text += "\n" + line[2:]
        elif status := _STATUS.fullmatch(line):
            found[-1].status = int(status[1])
        elif line and not line.startswith("# "):
            found[-1].output.append(line)
    return found


class Shell:
    """Runs commands in a folder; `stack` is what runs at the addresses, or None for none."""

    def __init__(self, folder, stack=None):
        self._folder = folder
        self._base = None if stack is None else stack.local.port_base
        programs = folder / "bin"
        programs.mkdir()
        for name, command in (("sottovoce", "-m sottovoce"), ("python", "")):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {sys.executable} {command} "$@"\n')
            program.chmod(0o755)
        self._env = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "TERM": "dumb",
            "OMP_NUM_THREADS": "1",
        }
        if stack is not None:
            self._env["UP"] = str(stack.local.folder)
            self._env["SOTTOVOCE_PROXY"] = f"http://127.0.0.1:{self._base}"

    def translate(self, text):
        """Return a text with the addresses of the running stack."""
        if self._base is None:
            return text
        shift = self._base - DEFAULT_BASE
        return _ADDRESS.sub(lambda found: f"127.0.0.1:{int(found[1]) + shift}", text)

    def run(self, text):
        """Run a command; return its status, and both its outputs in one."""
        done = subprocess.run(
            ["bash", "-c", self.translate(text)],
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        return done.returncode, done.stdout

    def check(self, command):
        """Run a command of a transcript, and compare."""
        status, printed = self.run(command.text)
        printed = printed.replace(str(self._base), str(DEFAULT_BASE)) if self._base else printed
        assert status == command.status, f"$ {command.text}\nended with {status}:\n{printed}"
        assert command.matches(printed), f"$ {command.text}\nprinted:\n{printed}"
