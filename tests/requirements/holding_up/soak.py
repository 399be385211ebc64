"""A soak: many clients, the whole path as real processes, and always something that breaks."""

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from memory_search import family
from path_stack import Stack

from sottovoce import supervisor
from sottovoce.local import Local
from tests.requirements.holding_up import faults, ledger, traffic
from tests.requirements.holding_up.traffic import Outcomes, give, order

CLIENTS = 64
FEW = 16
"""Orders at once before anything is measured: every party has done everything then."""

LOOK_S = 0.1
BACK_OFF_S = 0.5
"""What a client waits after anything but an answer."""


class SoakParty(supervisor.Party):
    """A party; a worker is one whose device can be made to lie."""

    def start(self):
        if self.arguments[0] != "worker":
            return super().start()
        module, flag = "tests.requirements.holding_up.lying_worker", self.log.with_suffix(".lies")
        flag.write_bytes(b"\0")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, str(flag), *self.arguments[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=supervisor._die_with_parent,  # noqa: PLW1509 - as the original
            )
        self.started = time.monotonic()
        return None


class SoakSupervisor(supervisor.Supervisor):
    """Starts parties of this kind."""

    def start(self, name, *arguments):
        self.parties[name] = party = SoakParty(name, arguments, self._folder / f"{name}.log")
        party.start()


@dataclass(frozen=True)
class WithPostgres(Local):
    """A system whose issuer and store keep their books in PostgreSQL."""

    urls: dict

    def database(self, party):
        return self.urls[party]


class SoakStack(Stack):
    """Every party, two workers, and PostgreSQL if there is one."""

    def __init__(self, database=None):
        super().__init__()
        up = self.up
        if database is not None:
            urls = {party: database.new_database() for party in ("issuer", "spent")}
            up.local = WithPostgres(**vars(up.local), urls=urls)
        up.supervisor = SoakSupervisor(up.local.folder, up._on_death)
        self.local, self.supervisor = up.local, up.supervisor


@dataclass(frozen=True)
class Plan:
    """How much: orders from `first` on, until there are enough or the time is over."""

    seed: int
    requests: int
    seconds: float
    first: int = 0
    clients: int = CLIENTS
    recovery_s: float = 180.0
    """After this long at most everything is as it was. A worker that was killed loads its model,
    makes keys, and waits for two epochs of the list (10 s) until the proxy has it, all of it on
    processors that the clients keep busy with the other worker; and whoever asks whether all is
    well waits among the clients."""

    kinds_of_fault: tuple = faults.FAULTS


@dataclass(frozen=True)
class Held:
    """What a party holds: its processes, their descriptors, their memory."""

    processes: int
    descriptors: int
    mib: int


class Soak:
    """One soak of a running system."""

    def __init__(self, stack, plan, database=None):
        self.stack, self.plan, self.database = stack, plan, database
        self.outcomes = Outcomes()
        self.flags = [stack.local.folder / f"worker{index}.lies" for index in range(2)]
        self.earlier_log = stack.local.folder / "log.earlier"
        self.broken = []
        """What was broken, and how many seconds after its mending all was well."""
        self.breaking = ""
        """What is broken now, or was last."""
        self.elsewhere = 0
        """Tokens drawn by others than the proxy, of the same account."""
        self.times = {}
        """Seconds of its parts."""
        self._numbers = itertools.count(plan.first)
        self._over = False

    async def run(self):
        """Break and mend until the plan is done; return the books, before and after."""
        began = time.monotonic()
        async with self._client() as client, self._watching():
            shutil.copytree(self.stack.local.folder / "log", self.earlier_log)
            await self._warm_up(client)
            held, before = self.held(), await self.books()
            self.times["warm"] = time.monotonic() - began
            began = time.monotonic()
            asking = [asyncio.create_task(self._ask(client)) for _ in range(self.plan.clients)]
            breaking = asyncio.create_task(self._break(client, began + self.plan.seconds))
            try:
                await asyncio.gather(breaking, *asking)
            except AssertionError as wrong:
                wrong.add_note(self.diagnosis())
                raise
            self.times["soaked"] = time.monotonic() - began
            await self.heal(client)
            await self.until(self.stack.at_rest)
            return before, await self.books(), held, self.held()

    async def quiet(self, orders):
        """Ask one after the other while nothing breaks; return what changed in the books."""
        async with self._client() as client, self._watching():
            before = await self.books()
            for number in range(orders):
                what = await give(client, order(self.plan.seed, -number), self.outcomes)
                assert what in {"answered", "left"}, what
            await self.until(self.stack.at_rest)
            return (await self.books()).since(before)

    def _client(self):
        return httpx.AsyncClient(
            base_url=f"{self.stack.base_url}/",
            trust_env=False,
            timeout=traffic.TIMEOUT_S,
            limits=httpx.Limits(max_connections=2 * CLIENTS),
        )

    @contextlib.asynccontextmanager
    async def _watching(self):
        """Have who died started again, meanwhile."""

        async def watch():
            while True:
                self.stack.supervisor.look()
                await asyncio.sleep(LOOK_S)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()

    async def _warm_up(self, client):
        """Ask everything once that has one answer, alone: the reference for what comes later."""
        for question in traffic.QUESTIONS:
            for kind in ("chat", "streamed"):
                body = traffic.chat(question, stream=kind == "streamed")
                asked = traffic.Order(kind, "chat/completions", body)
                assert await give(client, asked, self.outcomes) == "answered"
        await asyncio.gather(*(give(client, order(-1, n), self.outcomes) for n in range(FEW)))
        await self.until(self.stack.at_rest)

    async def _ask(self, client):
        """Be one client."""
        for number in self._numbers:
            if self._over or number >= self.plan.first + self.plan.requests:
                self._over = True
                return
            what = await give(client, order(self.plan.seed, number), self.outcomes)
            if what not in {"answered", "left"}:
                await asyncio.sleep(BACK_OFF_S)

    async def _break(self, client, deadline):
        """Break one thing after the other, and wait each time until all is well."""
        chance = random.Random(self.plan.seed + self.plan.first)
        for fault in faults.schedule(chance, self.plan.kinds_of_fault):
            if self._over or time.monotonic() > deadline:
                self._over = True
                return
            self.breaking = fault.__name__
            self.broken.append((await fault(self, chance), await self.heal(client)))
            await asyncio.sleep(chance.uniform(0, 2))

    async def heal(self, client):
        """Wait until every party serves and an answer comes; return how long that took."""
        began = time.monotonic()
        asked = traffic.Order("chat", "chat/completions", traffic.chat(traffic.QUESTIONS[0]))
        while not (
            await asyncio.to_thread(self.stack.settled)
            and await give(client, asked, self.outcomes) == "answered"
        ):
            assert time.monotonic() < began + self.plan.recovery_s, self.diagnosis()
            await asyncio.sleep(LOOK_S)
        for party in self.stack.supervisor.parties.values():
            party.deaths = 0  # it was we who killed it: it need not wait longer the next time
        return time.monotonic() - began

    async def until(self, condition):
        """Wait for a condition."""
        deadline = time.monotonic() + self.plan.recovery_s
        while not condition():
            assert time.monotonic() < deadline, self.diagnosis()
            await asyncio.sleep(LOOK_S)

    async def stop(self, name):
        """Kill a party, and leave it so."""
        party = self.stack.supervisor.parties[name]
        process, party.process, party.restart_at = party.process, None, float("inf")
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def resume(self, name):
        """Start it again; return once it runs."""
        self.stack.supervisor.parties[name].restart_at = 0.0
        await self.until(lambda: self.stack.process(name) is not None)

    def capsules(self, worker):
        """Return the capsules of a worker; none of one that is just not there."""
        with contextlib.suppress(AttributeError, FileNotFoundError, ProcessLookupError):
            return self.stack.capsules(worker)
        return set()

    async def books(self):
        """Return what the books say once they say it twice: no draw is under way."""
        last, now = None, await self._balance()
        while now != last:
            await asyncio.sleep(1.2)
            last, now = now, await self._balance()
        return now

    async def _balance(self):
        balance = await ledger.read(self.stack)
        return replace(balance, drawn=balance.drawn - self.elsewhere)

    def held(self):
        """Return what each party holds."""
        return {
            name: _held(family(party.process.pid))
            for name, party in self.stack.supervisor.parties.items()
        }

    def diagnosis(self):
        """Return what happened, for who has to find out why."""
        words = [
            f"{name}: {party.last_words(4)}"
            for name, party in self.stack.supervisor.parties.items()
        ]
        last = self.stack.printed.getvalue()[-1500:]
        broken = ", ".join(f"{what}: {seconds:.0f} s" for what, seconds in self.broken)
        return "\n".join(
            [broken, f"now: {self.breaking}", str(self.outcomes.refusals()), last, *words]
        )


def _held(pids):
    descriptors = mib = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - a count
            status = Path(f"/proc/{pid}/status").read_text()
            mib += int(status.partition("RssAnon:")[2].split()[0]) >> 10
    return Held(len(pids), descriptors, mib)
