"""Runs the parties as child processes, starts one again that died, and ends them all together."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1

STOP_S = 10.0
"""Seconds a party gets to end by itself before it is killed."""

RESTART_PAUSE_S = 1.0
"""Seconds before a party that died is started again; doubled for each death in a row, up to
`LONGEST_PAUSE_S`, so that one that cannot start does not spin."""

LONGEST_PAUSE_S = 30.0

STEADY_S = 60.0
"""A party that ran this long is not one that cannot start."""


def _die_with_parent() -> None:
    # Also when the parent is killed outright, nothing stays behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Party:
    """One child process: its name, the arguments of `sottovoce`, and where its stderr goes."""

    name: str
    arguments: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    restart_at: float = field(default=0.0)

    def start(self) -> None:
        """Start the process."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                [sys.executable, "-m", "sottovoce", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - the supervisor has one thread
            )
        self.started = time.monotonic()

    def last_words(self, lines: int = 12) -> str:
        """Return the end of what the party wrote: typed events, never content."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class Supervisor:
    """Keeps a set of parties alive; `on_death` is told of each death before the restart."""

    def __init__(self, folder: Path, on_death: Callable[[Party, int], None]) -> None:
        self._folder = folder
        self._on_death = on_death
        self.parties: dict[str, Party] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start a party and keep it running from now on."""
        party = Party(name, arguments, self._folder / f"{name}.log")
        self.parties[name] = party
        party.start()

    def look(self) -> None:
        """Notice who died, and start again whose pause is over."""
        now = time.monotonic()
        for party in self.parties.values():
            if party.process is None:
                if now >= party.restart_at:
                    party.start()
                continue
            code = party.process.poll()
            if code is None:
                continue
            party.deaths = party.deaths + 1 if now - party.started < STEADY_S else 1
            pause = min(RESTART_PAUSE_S * 2 ** (party.deaths - 1), LONGEST_PAUSE_S)
            party.process, party.restart_at = None, now + pause
            self._on_death(party, code)

    def stop(self) -> None:
        """End every party: politely, and after `STOP_S` seconds by force."""
        running = [party.process for party in self.parties.values() if party.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def interrupt_on_terminate() -> None:
    """Let SIGTERM end the program the way Ctrl-C does, so that one path cleans up."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts what runs in its background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
