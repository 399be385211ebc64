"""Every party as `sottovoce up` starts it, but the worker with a plain face beside its gateway."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
from rich.console import Console

from client.wallet import Wallet
from sottovoce.bench.cost import processor_time, roles_of
from sottovoce.local import ISSUER, ISSUER_NAME, PROXY, Local
from sottovoce.models import choose_model
from sottovoce.publish import issuer_key_leaf
from sottovoce.supervisor import Party, Supervisor
from sottovoce.up import Up, UpOptions
from transparency.leaf import IssuerKeyLeaf

_PLAIN = 60
"""Port offset of the plain face: beside everything `up` uses."""

_EPOCH_S = 60
"""Of the node list: as `up` has it."""


class _Supervisor(Supervisor):
    """Starts the benchmark's worker where `up` asks for one."""

    def __init__(
        self, folder: Path, on_death: Callable[[Party, int], None], plain_port: int
    ) -> None:
        super().__init__(folder, on_death)
        self._plain_port = plain_port

    def start(self, name: str, *arguments: str) -> None:
        """Start a party."""
        if arguments[0] == "worker":
            plain = ("--plain-port", str(self._plain_port))
            arguments = ("bench", "worker", *plain, *arguments[1:])
        super().start(name, *arguments)


class Stack(Up):
    """One worker, and everybody else."""

    def __init__(self, model: Path | None, *, tokens: int) -> None:
        port_base = free_port_base()
        wanted = None if model is None else str(model)
        options = UpOptions(port_base, workers=1, model=wanted, list_epoch_s=_EPOCH_S)
        super().__init__(options, Console(file=io.StringIO()))
        self.plain_port = port_base + _PLAIN
        self.proxy_port = self.local.port(PROXY)
        self.model_name = choose_model(wanted).name
        self._tokens = tokens
        self.supervisor = _Supervisor(self.local.folder, self._on_death, self.plain_port)

    def _start_path(self, model: Path, name: str, account: str) -> None:
        # A full purse beforehand: drawing tokens is not what is measured.
        asyncio.run(fill_wallet(self.local, account, self._tokens))
        super()._start_path(model, name, account)

    def processor_times(self) -> dict[str, float]:
        """Return the processor seconds so far of each process on a request's way."""
        parties = self.supervisor.parties
        roles = roles_of(self.local.folder / "worker0.log")
        times = {}
        for name in ("proxy", "relay"):
            process = parties[name].process
            if process is not None:
                times[name] = processor_time(process.pid).own
        times["front"] = processor_time(roles["front"]).own
        times["keeper"] = processor_time(roles["keeper"]).own
        zygote = processor_time(roles["zygote"])
        times["zygote"], times["capsules"] = zygote.own, zygote.children
        return times


async def fill_wallet(local: Local, account: str, tokens: int) -> None:
    """Draw tokens into the proxy's wallet before it starts."""
    leaf = issuer_key_leaf(ISSUER_NAME, local.issuer_key)

    async def keys() -> list[IssuerKeyLeaf]:
        return [leaf]

    async with httpx.AsyncClient(trust_env=False) as http:
        wallet = Wallet(
            issuer_url=local.url(ISSUER),
            account_key=account,
            issuer_keys=keys,
            http=http,
            path=local.directory("proxy") / "wallet.json",
        )
        while len(wallet) < tokens:
            await wallet.refill()


@contextlib.contextmanager
def running(model: Path | None, *, tokens: int) -> Iterator[Stack]:
    """Start a stack whose wallet holds `tokens` tokens, and end it."""
    stack = Stack(model, tokens=tokens)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def free_port_base() -> int:
    """Return a base all of whose ports are free just now, below the ephemeral ones."""
    first = os.getpid() * 211 % 18_000
    for base in (10_000 + (first + step) % 18_000 for step in range(0, 18_000, 211)):
        if all(_free(base + offset) for offset in (*range(8), _PLAIN, 100, 101, 102)):
            return base
    raise OSError("no free range of ports")


def _free(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
