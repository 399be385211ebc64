"""While parties die, disks fill, devices lie and logs fork, no token is lost or doubled and no
answer is wrong; afterwards nothing is left, and in seconds all is as before.

The slice runs with all tests. The large form is bounded by the environment, and goes on where the
journal says that the last one ended:

    SOAK_REQUESTS=20000 SOAK_SECONDS=7200 SOAK_SEED=1 SOAK_JOURNAL=soak.jsonl \\
        python -m pytest -m soak -s tests/requirements/holding_up
"""

import asyncio
import json
import os
import statistics
from collections import Counter
from pathlib import Path

import pytest
from canary import Needles
from memory_search import Search, can_read_others, family

from client.wallet import BATCH, DRAWN_AHEAD
from engine.native import library
from tests.requirements.holding_up import faults
from tests.requirements.holding_up.soak import CLIENTS, Plan, Soak

try:
    library.load()
except library.NativeUnavailable as unavailable:
    pytest.skip(f"compiled kernels: {unavailable}", allow_module_level=True)

SEARCHED = 24
"""Canaries that are looked for: the last ones, and with them those under way when things broke."""

MORE_DESCRIPTORS = 150
"""Connections that are kept open for the next request, at most; a leak has one for each request."""
MORE_MIB = 96
IN_THE_SLICE = (faults.kill_role, faults.kill_capsules, faults.lie, faults.restart_database)
SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
CHOSEN = os.environ.get("SOAK_FAULTS", "").split()
"""Names of the functions of `faults`, to look at some alone."""


def journal():
    """Return the journal's path, and how many orders it has already."""
    path = Path(os.environ.get("SOAK_JOURNAL", os.devnull))
    lines = path.read_text().splitlines() if path.is_file() else []
    return path, json.loads(lines[-1])["next"] if lines else 0


@pytest.mark.timeout(600)
def test_a_slice_of_the_soak(soaked, database, report):
    few = {"requests": 10_000, "seconds": 8, "kinds_of_fault": IN_THE_SLICE}
    plan = Plan(seed=8, **few)
    hold_up(Soak(soaked, plan, database), report)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
def test_the_soak(soaked, database, report):
    path, first = journal()
    plan = Plan(
        seed=int(os.environ.get("SOAK_SEED", "1")),
        requests=int(os.environ.get("SOAK_REQUESTS", "2000")),
        seconds=SECONDS,
        first=first,
        clients=int(os.environ.get("SOAK_CLIENTS", CLIENTS)),
        recovery_s=float(os.environ.get("SOAK_RECOVERY_S", Plan.recovery_s)),
        kinds_of_fault=tuple(getattr(faults, name) for name in CHOSEN) or faults.FAULTS,
    )
    soak = Soak(soaked, plan, database)
    told = hold_up(soak, report)
    with path.open("a") as lines:
        lines.write(json.dumps({"next": first + told["orders"], **told}) + "\n")


def hold_up(soak, report):
    """Soak, and judge."""
    before, after, held, then = asyncio.run(soak.run())
    told = summary(soak, after.since(before), held, then)
    report(json.dumps(told, indent=1))
    assert_no_token_is_lost_or_doubled(soak, before, after)
    assert_nobody_hung_up(soak)
    assert_nothing_leaks(held, then)
    assert_no_residue(soak)
    change = asyncio.run(soak.quiet(8))
    assert change.lost == 0, "while nothing breaks, to the last token"
    return told


def summary(soak, change, held, then):
    """Return what happened, as figures."""
    healed = [seconds for _, seconds in soak.broken]
    return {
        "orders": sum(soak.outcomes.counts.values()),
        "answered": soak.outcomes.good,
        "outcomes": soak.outcomes.refusals(),
        "kinds": soak.outcomes.kinds(),
        "broken": Counter(what for what, _ in soak.broken),
        "seconds": {name: round(taken) for name, taken in soak.times.items()},
        "recovery_s": [round(statistics.median(healed), 1), round(max(healed), 1)],
        "tokens": {**vars(change), "lost": change.lost, "paid": change.paid},
        "mib": {name: then[name].mib - held[name].mib for name in held},
        "descriptors": {name: then[name].descriptors - held[name].descriptors for name in held},
    }


def assert_no_token_is_lost_or_doubled(soak, before, after):
    """Every answer was paid for, and every token is where one of the books has it.

    What may be gone: what a proxy that was killed had off its file, or was drawing when it or the
    issuer died, and what was shown with orders that came to nothing.
    """
    change, outcomes = after.since(before), soak.outcomes
    died = sum("kill" in what or "disk" in what or "slow" in what for what, _ in soak.broken)
    assert change.lost >= 0, "a token was doubled"
    assert change.lost <= died * (BATCH + DRAWN_AHEAD) + 2 * outcomes.other, "tokens were lost"
    assert outcomes.good <= after.paid, "an answer was not paid for"


def assert_nobody_hung_up(soak):
    """Whatever dies behind it, a proxy that lives says so in an answer."""
    if not any("proxy" in what for what, _ in soak.broken):
        broken = {what for _, what in soak.outcomes.counts if what.startswith("broken")}
        assert broken <= {"broken: ReadTimeout"}, broken


def assert_nothing_leaks(held, then):
    """No process, no descriptor and no memory more than at the beginning."""
    for name, now in then.items():
        assert now.processes == held[name].processes, name
        assert now.descriptors <= held[name].descriptors + MORE_DESCRIPTORS, name
        assert now.mib <= held[name].mib + MORE_MIB, name


def assert_no_residue(soak):
    """Nothing of an order is in a process or a file of anybody but the client."""
    if not can_read_others():
        return  # said by the tests of residue themselves
    needles = Needles()
    for prompt in soak.outcomes.canaries[-SEARCHED:]:
        needles.text("prompt", prompt)
    if not needles.found:
        return
    searching = Search(needles.found)
    others = {n: p for n, p in soak.stack.supervisor.parties.items() if n != "proxy"}
    pids = [pid for party in others.values() for pid in family(party.process.pid)]
    hits = searching.processes(pids) | searching.files(soak.stack.local.folder)
    assert not hits, dict(list(hits.items())[:20])
