"""What is broken during a soak, each for a while, and then mended.

Simulated, and called so: a full disk is a limit on the size of files, whose writes fail with EFBIG
in place of ENOSPC; memory that runs out is a limit on a capsule's address space; a clock that
jumped is the client's, as the `Date` in a request of its own; a log that forks is one that is put
back to an earlier state, and goes on to sign another tree of the same size.
"""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import time

import httpx
from path_stack import children
from path_user import run

from client.errors import ClientError
from client.wallet import BATCH

PARTIES = ("relay", "issuer", "spent", "log", "witness0", "worker0", "worker1", "proxy")
HELD_S = 3.0
"""How long something stays broken that does not end by itself."""

FORKED_S = 12.0
"""Two epochs of the list and more: the log that was put back signs new lists meanwhile."""


@contextlib.contextmanager
def limited(pid, what, value):
    """Let a process have no more than `value` of something."""
    _, hard = before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (value, hard))
    yield
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, what, before)


async def kill(soak, chance):
    """Kill a party, with what it was doing."""
    name = chance.choice(PARTIES)
    if process := soak.stack.process(name):
        process.kill()
    return f"kill {name}"


async def kill_role(soak, chance):
    """Kill one process of a worker: keeper, front, zygote, door or engine."""
    worker = f"worker{chance.randrange(2)}"
    if process := soak.stack.process(worker):
        roles = children(process.pid)
        os.kill(chance.choice(roles), signal.SIGKILL)
    return f"kill a role of {worker}"


async def kill_capsules(soak, chance):
    """Kill the half of a worker's capsules, idle or not."""
    worker = f"worker{chance.randrange(2)}"
    for pid in sorted(soak.capsules(worker)):
        if chance.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return f"kill capsules of {worker}"


async def slow(soak, chance):
    """Let a party not run for a while; a store, mostly."""
    name = chance.choice(["spent", "spent", "issuer", "relay", "log"])
    if process := soak.stack.process(name):
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(HELD_S)
        process.send_signal(signal.SIGCONT)
    return f"slow {name}"


async def full_disk(soak, chance):
    """Let no file of a party's grow."""
    name = chance.choice(["spent", "issuer", "log", "witness0", "proxy"])
    if process := soak.stack.process(name):
        with limited(process.pid, resource.RLIMIT_FSIZE, 0):
            await asyncio.sleep(HELD_S)
    return f"full disk of {name} (simulated)"


async def out_of_memory(soak, chance):
    """Let the capsules of a worker get no more memory than they have."""
    worker = f"worker{chance.randrange(2)}"
    for pid in soak.capsules(worker):
        with contextlib.suppress(ProcessLookupError), contextlib.ExitStack() as limits:
            limits.enter_context(limited(pid, resource.RLIMIT_AS, 1 << 20))
            limits.pop_all()  # for the rest of its life
    return f"no memory for capsules of {worker} (simulated)"


async def restart_database(soak, _):
    """Stop PostgreSQL at once, and start it again."""
    if soak.database is None:
        return await kill(soak, _)
    await asyncio.to_thread(soak.database.stop)
    await asyncio.sleep(HELD_S / 3)
    await asyncio.to_thread(soak.database.start)
    return "restart PostgreSQL"


async def lie(soak, chance):
    """Let the device of a worker lie; nothing that it computed is delivered.

    The worker begins nothing new then, until a person has looked at it: here, started it anew.
    """
    flag = soak.flags[chance.randrange(2)]
    with flag.open("r+b") as file:  # in place: the engine has the page mapped
        file.write(b"\1")
    await asyncio.sleep(HELD_S)
    if process := soak.stack.process(flag.stem):
        process.kill()
    return f"device of {flag.stem} lies, then kill it"


async def fork_log(soak, _):
    """Put the log back to an earlier state, and let it go on from there for a while."""
    folder, kept = soak.stack.local.folder / "log", soak.stack.local.folder / "log.kept"
    await soak.stop("log")
    folder.rename(kept)
    shutil.copytree(soak.earlier_log, folder)
    await soak.resume("log")
    await asyncio.sleep(FORKED_S)
    await soak.stop("log")
    shutil.rmtree(folder)
    kept.rename(folder)
    await soak.resume("log")
    return "the log forks (simulated)"


async def clock_jump(soak, chance):
    """A client's clock is off by a day: it is told so, and its token is still good."""
    offset = chance.choice([-86_400, 86_400])

    async def scenario(user):
        node = (await user.directory.current()).nodes[0]
        tokens = await user.wallet.take(1)
        wrong = await user.request(tokens, date=(int(time.time()) + offset) // 60 * 60)
        soak.elsewhere += BATCH
        status, body = await user.ask(node, wrong)
        assert status == 503 or (status == 400 and b"#date" in body), (status, body)

    with contextlib.suppress(ClientError, httpx.HTTPError):  # something else is broken as well
        await asyncio.to_thread(run, soak.stack, scenario)
    return "a client's clock jumps (simulated)"


FAULTS = (
    kill, kill, kill_role, kill_capsules, slow, full_disk, out_of_memory, restart_database, lie,
    fork_log, clock_jump,
)  # fmt: skip


def schedule(chance, kinds):
    """Yield faults without end: all of them in a drawn order, then again in another."""
    while True:
        yield from chance.sample(kinds, len(kinds))
