"""Every party as a real process on loopback."""

import io
import os
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import httpx
from rich.console import Console

from sottovoce.local import PROXY
from sottovoce.up import Up, UpOptions

LIST_EPOCH_S = 5
MODEL = "tinychat"
IDLE_CAPSULES = 4 + 2
"""What a worker keeps ready, for the gateway and for the direct port."""


def children(pid):
    """Return the processes that one has forked."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def free_port_base():
    """Find a base whose ports are free, below the ephemeral ones.

    It begins at a place of this process's own, so that two runs at once do not race for one.
    """
    first = os.getpid() * 211 % 18_000
    for base in (10_000 + (first + step) % 18_000 for step in range(0, 18_000, 211)):
        try:
            for offset in (*range(8), 41, 42, 43, 50, 51, 100, 101, 102):
                with closing(socket.socket()) as probe:
                    probe.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        return base
    raise RuntimeError("no free range of ports")


class Stack:
    """A running `sottovoce up`, and what tests do to it."""

    def __init__(self, workers=2):
        self.printed = io.StringIO()
        options = UpOptions(
            free_port_base(), workers=workers, model=None, list_epoch_s=LIST_EPOCH_S, direct=True
        )
        self.up = Up(options, Console(file=self.printed, width=120))
        self.local = self.up.local
        self.supervisor = self.up.supervisor

    @property
    def base_url(self):
        return f"{self.local.url(PROXY)}/v1"

    def process(self, name):
        return self.supervisor.parties[name].process

    def capsules(self, name):
        """Return the capsules of a worker, those in use and those that wait for a request.

        What `/metrics` says is too coarse to see one request end: that is what it is for.
        """
        return {capsule for role in children(self.process(name).pid) for capsule in children(role)}

    def at_rest(self):
        """Whether every worker has the capsules that it keeps ready, and no others."""
        workers = [f"worker{index}" for index in range(len(self.local.worker_urls))]
        try:
            return all(len(self.capsules(name)) == IDLE_CAPSULES for name in workers)
        except (FileNotFoundError, ProcessLookupError):
            return False  # one of them ended meanwhile

    def ask_sqlite(self, party, question):
        """Return the one number that a party's database answers."""
        path = self.local.database(party).partition("///")[2]
        with closing(sqlite3.connect(path, timeout=10)) as database:
            return database.execute(question).fetchone()[0]

    def tokens_spent(self):
        """Return how many tokens the spent-token store has."""
        return self.ask_sqlite("spent", "SELECT count(*) FROM spent")

    def until(self, condition, timeout=60.0):
        """Let the supervisor work until `condition()` is true."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.supervisor.look()
            if condition():
                return
            time.sleep(0.1)
        raise AssertionError(f"not within {timeout} s: {self.printed.getvalue()[-2000:]}")

    def chat(self, prompt="Hello", timeout=60.0, **members):
        """One plain completion through the proxy; returns the response, whatever it is."""
        request = {
            "model": MODEL,
            "max_tokens": 8,
            "messages": [{"role": "user", "content": prompt}],
            **members,
        }
        return httpx.post(
            f"{self.base_url}/chat/completions", json=request, timeout=timeout, trust_env=False
        )

    def settled(self):
        """Whether every worker is in the log again, not only enough of them to serve."""
        try:
            healths = [
                httpx.get(f"{url}/health", trust_env=False) for url in self.local.worker_urls
            ]
        except httpx.HTTPError:
            return False
        return all(health.json()["nodes"] for health in healths)

    def serves(self):
        """Whether a completion succeeds now."""
        try:
            return self.chat(timeout=20).status_code == 200
        except httpx.HTTPError:
            return False
