"""A capsule whose request has taken it over, with code of the attacker's running in it.

It finds the request it is for, and nothing else: no node key, no other request, no way to open one
that it has recorded. What it may ask of the kernel is tried in `requirements/enforceable` and by
`tests/server/test_worker.py`.
"""

import contextlib
import hashlib
import random
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from canary import Needles, canary
from memory_search import Search, can_read_others

from tests.server import wallet
from tests.server.conftest import until

if not can_read_others():
    pytest.skip("reading another process's memory needs root", allow_module_level=True)

DRAWN = 200
"""Of what the keeper drew, so many can be a key: two generations' and a rehearsal's take less."""


@pytest.fixture(scope="module")
def keys():
    """Everything that the keeper under test draws: the seeds of all of its keys."""
    needles = Needles()
    for number in range(DRAWN):
        needles.secret(f"key {number}", hashlib.sha256(b"%d" % number).digest())
    return needles


def test_a_capsule_holds_its_own_request_and_no_key_of_the_node(start_worker, keys):
    chance = random.Random(31)
    texts = [canary(chance), canary(chance, emoji=True)]
    with start_worker(known_keys=True) as worker, ThreadPoolExecutor(2) as executor:
        worker.wait_for("WorkerReady")
        until(worker.serves, worker=worker)
        asked = [
            worker.encapsulate({"held": True, "prompt": text}, tokens=(wallet.draw(),))
            for text in texts
        ]
        answers = [executor.submit(worker.post, sent) for sent in asked]
        until(lambda: worker.journal().count("submit") == 2, worker=worker)
        roles = ("front", "zygote", "engine")
        others = {worker.process.pid, *map(worker.pid, roles), *worker.capsules()}
        try:
            found = Search(keys.found).process(worker.pid("keeper"))
            assert found, "a search that cannot find proves nothing"
            assert Search(keys.found).processes(others) == {}
            holders = [holding(worker, text) for text in texts]
            assert [len(each) for each in holders] == [1, 1]
            assert holders[0] != holders[1]
            for text in texts:
                needles = Needles().text("prompt", text)
                rest = {*map(worker.pid, (*roles, "keeper")), worker.process.pid}
                assert Search(needles.found).processes(rest) == {}
        finally:
            worker.let_go()
        for sent, answer in zip(asked, answers, strict=True):
            assert sent.open(answer.result().content).status == 200


def holding(worker, text):
    """Return the capsules in whose memory any piece of a text is."""
    searching = Search(Needles().text("prompt", text).found)
    return {pid for pid in worker.capsules() if searching.processes([pid])}


def until_cut(worker, sent):
    """Return the answer as far as it goes."""
    url, headers = f"{worker.url}/gateway", {"content-type": sent.media_type}
    received = b""
    with (
        httpx.Client(trust_env=False, timeout=30) as client,
        client.stream("POST", url, content=sent.encapsulated, headers=headers) as response,
        contextlib.suppress(httpx.RemoteProtocolError),
    ):
        for data in response.iter_raw():
            received += data
    return received


def test_it_cannot_have_a_request_opened_that_it_has_recorded(start_worker):
    """Not even together with a relay that saw the ciphertext: a capsule gets one context."""
    with start_worker() as worker:
        worker.wait_for("WorkerReady")
        until(worker.serves, worker=worker)
        victim = worker.encapsulate({"prompt": "mine"}, tokens=(wallet.draw(),))
        order = {"stream": True, "show": "another", "another": victim.encapsulated.hex()}
        attacker = worker.encapsulate(order, tokens=(wallet.draw(),))
        said = attacker.open_cut(until_cut(worker, attacker))
        assert b'{"stolen": false}' in said
        assert b"attestation" not in said, "the keeper has hung up: no receipt either"
        assert victim.open(worker.post(victim).content).status == 200
