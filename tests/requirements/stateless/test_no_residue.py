"""After an answer nothing of the request is left in any process of the worker, or in its logs.

Prompts that occur nowhere else go to one node on every way there is; then pieces of their text,
their ids, rows of the KV cache, answers and keys are searched for in every readable page of the
node's processes and in every file. While a request runs, the same search must find it.
"""

import asyncio
import contextlib
import hmac
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from types import SimpleNamespace

import pytest
from canary import Needles, canary
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from kv_rows import Model
from memory_search import Search, can_read_others, family
from path_stack import Stack
from path_user import run

from client.exchange import InnerRequest
from sottovoce import supervisor
from sottovoce.local import WORKER

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(240)]
if not can_read_others():
    pytest.skip("reading another process's memory needs root", allow_module_level=True)

CHAT, COMPLETIONS = b"/v1/chat/completions", b"/v1/completions"
SOON_S = 0.5
"""After the end of the last answer by which nothing may be left; the search begins then."""


@dataclass(frozen=True)
class Way:
    """One way for a request to go."""

    path: bytes
    members: dict
    cut: bool = False
    """The client hangs up after the first of the answer."""
    status: int = 200

    def body(self, prompt):
        message = {"role": "user", "content": prompt}
        asked = {"messages": [message]} if self.path == CHAT else {"prompt": prompt}
        body = json.dumps({"model": "tinychat", "max_tokens": 24, **asked, **self.members})
        return body.replace("PROMPT", prompt).encode()


TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
    },
}
LONG = {"ignore_eos": True, "max_tokens": 400, "stream": True}
CREATIVE = Way(COMPLETIONS, {"temperature": 2.0, "ignore_eos": True, "max_tokens": 200})
"""Its answer occurs nowhere else either."""
WAYS = (
    CREATIVE,
    Way(CHAT, {}),
    Way(CHAT, {"stream": True}),
    Way(COMPLETIONS, {"n": 4, "temperature": 1.0}),
    Way(COMPLETIONS, LONG, cut=True),
    Way(CHAT, {"messages": "PROMPT"}, status=400),
    Way(CHAT, {"tools": [TOOL], "tool_choice": "required"}),
    Way(CHAT, {"response_format": {"type": "json_object"}}),
    Way(CHAT, {"logprobs": True, "top_logprobs": 5}),
    Way(CHAT, {"stop": ["e", " "]}),
    Way(CHAT, {"max_tokens": "PROMPT"}, status=400),
    Way(COMPLETIONS, {"prompt": "PROMPT " * 2000}, status=400),
    Way(CHAT, {"model": "PROMPT"}, status=404),
)
AT_ONCE = 16


def response_key(opener):
    """Derive the key that the answer is sealed with (draft-ietf-ohai-chunked-ohttp, 6.2)."""
    secret = opener.export(b"message/bhttp chunked response", len(opener._nonce))
    extracted = hmac.digest(opener._enc + opener._nonce, secret, "sha256")
    return HKDFExpand(SHA256(), 16, b"key").derive(extracted)


class Node:
    """The first worker, as a user reaches it and as an intruder reads it."""

    def __init__(self, stack):
        self.stack = stack
        self.url = stack.local.url(WORKER)
        self.pid = stack.process("worker0").pid

    async def reach(self, user):
        """Return the verified node."""
        names = (await user.http.get(f"{self.url}/health")).json()["nodes"]
        listed = (await user.directory.current()).nodes
        return next(each for each in listed if each.key_document.node in names)

    async def open(self, user, way, prompt, needles):
        """Send one request the whole way; what its keys are is added to `needles`."""
        minute = int(time.time()) // 60 * 60
        if len(user.wallet) < 4:
            await user.wallet.refill()
        tokens = await user.wallet.take(1)
        request = InnerRequest(b"POST", way.path, way.body(prompt), minute, tokens)
        exchange = await user.open(await self.reach(user), request)
        needles.secret(f"{prompt[:12]}: request salt", exchange.salts.request)
        needles.secret(f"{prompt[:12]}: response salt", exchange.salts.response)
        needles.secret(f"{prompt[:12]}: response key", response_key(exchange._opener))
        assert exchange.head.status == way.status, way
        return exchange

    async def ask(self, user, way, prompt, needles):
        """Send one request, and read its answer or hang up."""
        exchange = await self.open(user, way, prompt, needles)
        if way.cut:
            await anext(exchange.contents())
        else:
            answer = await exchange.body()
            if way is CREATIVE:
                needles.sentence(
                    f"answer to {prompt[:12]}", json.loads(answer)["choices"][0]["text"]
                )
        await exchange.close()

    def search(self, needles):
        """Search its processes, and every file and log of the whole system."""
        searching = Search(needles.found)
        hits = searching.processes(family(self.pid))
        return hits | searching.files(self.stack.local.folder)

    @contextlib.contextmanager
    def stopped(self):
        """Let none of its processes run meanwhile."""
        pids = family(self.pid)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    def idle(self):
        """Wait until no capsule is in use."""
        self.stack.until(self.stack.at_rest)


@pytest.fixture(scope="module")
def model():
    return Model()


def prepared(node, model, seed, ways):
    """Return a prompt of letters and one with wider characters for each way, and the needles."""
    needles, chance = Needles(), random.Random(seed)
    asked = [(way, canary(chance, emoji=wide)) for way in ways for wide in (False, True)]
    for way, prompt in asked:
        needles.text("prompt", prompt)
        if way.path == COMPLETIONS and way.status == 200:
            model.add_prompt(needles, prompt)
    made = len(needles.found)
    for name in node.search(needles):  # what is there before anything was asked proves nothing
        del needles.found[name]
    assert len(needles.found) > 0.98 * made
    return asked, needles


def test_nothing_is_left_of_any_request(stack, model):
    node = Node(stack)
    asked, needles = prepared(node, model, 11, WAYS)

    async def scenario(user):
        for way, prompt in asked:
            await node.ask(user, way, prompt, needles)

    run(stack, scenario)
    node.idle()
    time.sleep(SOON_S)
    hits = node.search(needles)
    assert not hits, dict(list(hits.items())[:30])


def test_nothing_is_left_of_many_at_once(stack, model):
    node = Node(stack)
    asked, needles = prepared(node, model, 12, WAYS[: AT_ONCE // 2])

    async def scenario(user):
        await user.wallet.refill()
        await asyncio.gather(*(node.ask(user, *each, needles) for each in asked))

    run(stack, scenario)
    node.idle()
    time.sleep(SOON_S)
    hits = node.search(needles)
    assert not hits, dict(list(hits.items())[:30])


def test_the_same_search_finds_a_request_that_runs(stack, model):
    node = Node(stack)
    way = Way(COMPLETIONS, {**LONG, "max_tokens": 1800})
    [(_, prompt), _], needles = prepared(node, model, 13, [way])

    async def scenario(user):
        exchange = await node.open(user, way, prompt, needles)
        await anext(exchange.contents())
        with node.stopped():
            hits = node.search(needles)
        await exchange.close()
        return hits

    hits = run(stack, scenario)
    for kind in ("utf-8", "i32 ids", "K of layer 0: bf16", "V of layer 3: bf16", "response key"):
        assert any(kind in name for name in hits), kind


@pytest.fixture
def unhygienic(monkeypatch):
    """A system of its own whose one worker cleans nothing up."""
    root = Path(__file__).parents[3]
    program = [sys.executable, str(root / "tests" / "support" / "unhygienic_worker.py")]
    environment = {**os.environ, "PYTHONPATH": str(root)}

    def start(command, **how):
        if command[3] == "worker":
            command = [*program, *command[4:]]
        return subprocess.Popen(command, env=environment, **how)

    monkeypatch.setattr(supervisor, "subprocess", SimpleNamespace(Popen=start, DEVNULL=DEVNULL))
    running = Stack(workers=1)
    try:
        running.up.start()
        yield running
    finally:
        running.up.stop()


def test_the_same_search_finds_what_a_worker_without_hygiene_leaves(unhygienic, model):
    node = Node(unhygienic)
    asked, needles = prepared(node, model, 14, [CREATIVE])

    async def scenario(user):
        for way, prompt in asked:
            await node.ask(user, way, prompt, needles)

    run(unhygienic, scenario)
    hits = node.search(needles)
    for kind in ("utf-8", "i64 ids", "K of layer 0: bf16", "response key"):
        assert any(kind in name for name in hits), kind
