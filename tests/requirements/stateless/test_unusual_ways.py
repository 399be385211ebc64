"""Nothing is left of requests that an engine treats in an unusual way.

Preempted because blocks ran out, kept sealed in host memory meanwhile, proposed ids by n-grams or
by a draft model, refused because the computation did not hold. The engine itself notes that the
unusual happened.
"""

import json
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from canary import Needles, canary
from kv_rows import Model
from memory_search import Search, can_read_others, family

from engine.native import library
from tests.server import wallet
from tests.server.conftest import until

pytestmark = pytest.mark.timeout(240)
if not can_read_others():
    pytest.skip("reading another process's memory needs root", allow_module_level=True)
try:
    library.load()
except library.NativeUnavailable as unavailable:
    pytest.skip(f"compiled kernels: {unavailable}", allow_module_level=True)

FOLDER = Path(__file__).parents[3] / "engine" / "tinychat" / "model"
COMPLETIONS = b"/v1/completions"
SOON_S = 0.5
SMALL = {"max_model_len": 512, "threads": 1}
LONG = {"ignore_eos": True, "max_tokens": 160}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def model():
    return Model()


def prompts(seed, count):
    chance = random.Random(seed)
    return [canary(chance, emoji=wide) for _ in range(count) for wide in (False, True)]


def prepared(worker, model, asked):
    needles = Needles()
    for prompt in asked:
        needles.text("prompt", prompt)
        model.add_prompt(needles, prompt)
    made = len(needles.found)
    for name in search(worker, needles):  # what is there before proves nothing
        del needles.found[name]
    assert len(needles.found) > 0.98 * made
    return needles


def search(worker, needles):
    searching = Search(needles.found)
    return searching.processes(family(worker.process.pid)) | searching.files(worker.folder)


def ask(worker, order, path=COMPLETIONS, status=200):
    request = wallet.inner_request({"model": "tiny", **order}, tokens=(wallet.draw(),), path=path)
    sent = wallet.send(wallet.config_of(worker.document), request)
    response = sent.open(worker.post(sent).content)
    assert response.status == status, response.content
    return response


def ask_all(worker, asked, **order):
    with ThreadPoolExecutor(len(asked)) as executor:
        return list(executor.map(lambda prompt: ask(worker, {"prompt": prompt, **order}), asked))


def assert_nothing_is_left(worker, needles):
    until(lambda: len(worker.capsules()) == 2, worker=worker)
    time.sleep(SOON_S)
    hits = search(worker, needles)
    assert not hits, dict(list(hits.items())[:20])


def real(start_worker, **settings):
    engine = settings.pop("engine")
    return start_worker(real=True, model=str(FOLDER), engine=engine, **settings)


def test_preempted_proposed_by_ngrams_and_constrained_by_grammar(start_worker, model):
    engine = {**SMALL, "kv_blocks": 16, "speculation": "ngram"}  # eight at once want 24
    with real(start_worker, engine=engine, noting=True) as worker:
        worker.wait_for("WorkerReady")
        asked = prompts(21, 2)
        needles = prepared(worker, model, asked)
        ask_all(worker, asked, **LONG, n=2)
        repeated = [" ".join([prompt] * 3) for prompt in asked]
        ask_all(worker, repeated, max_tokens=40, ignore_eos=True)
        chat = {"messages": [{"role": "user", "content": asked[0]}], "max_tokens": 40}
        for grammar in (
            {"tools": [TOOL], "tool_choice": "required"},
            {"response_format": {"type": "json_object"}},
        ):
            ask(worker, chat | grammar, b"/v1/chat/completions")
        assert_nothing_is_left(worker, needles)
        assert worker.logged("NotedScheduler")
        assert worker.logged("NotedNgrams")


def test_preempted_and_kept_in_host_memory_meanwhile(start_worker, model):
    """What a preempted sequence had computed stays sealed outside the pool, and comes back."""
    engine = {**SMALL, "kv_blocks": 16, "kv_offload_bytes": 64 << 20}
    with real(start_worker, engine=engine, noting=True) as worker:
        worker.wait_for("WorkerReady")
        asked = prompts(25, 2)
        needles = prepared(worker, model, asked)
        answers = ask_all(worker, asked, **LONG, n=2)
        assert len(answers) == len(asked)
        assert_nothing_is_left(worker, needles)
        assert worker.logged("NotedScheduler")
        assert worker.logged("NotedOffload"), "what was left outside came back"


@pytest.mark.soak
def test_proposed_by_a_draft_model(start_worker, model):
    engine = {**SMALL, "speculation": "draft", "draft": str(FOLDER)}
    with real(start_worker, engine=engine, noting=True) as worker:
        worker.wait_for("WorkerReady")
        asked = prompts(22, 1)
        needles = prepared(worker, model, asked)
        ask_all(worker, asked, ignore_eos=True, max_tokens=40)
        assert_nothing_is_left(worker, needles)
        assert worker.logged("NotedDraft")


def test_refused_because_the_computation_does_not_hold(start_worker, model):
    engine = {**SMALL, "verification": "audit"}
    with real(start_worker, engine=engine, lying=True) as worker:
        worker.wait_for("WorkerReady")
        asked = prompts(23, 1)
        needles = prepared(worker, model, asked)
        for prompt in asked:
            refused = ask(worker, {"prompt": prompt, **LONG}, status=503)
            assert json.loads(refused.content)["error"]["code"] == "verification_failed"
        assert_nothing_is_left(worker, needles)


def test_given_up_because_the_client_is_too_slow(start_worker, model):
    """One that never ends its request, and one that reads nothing of a long answer and goes."""
    with real(start_worker, engine=SMALL, body_timeout_s=0.5) as worker:
        worker.wait_for("WorkerReady")
        asked = prompts(24, 1)
        needles = prepared(worker, model, asked)
        for prompt, missing in zip(asked, (1, 0), strict=True):
            order = {"model": "tiny", "prompt": prompt, **LONG, "stream": True}
            request = wallet.inner_request(order, tokens=(wallet.draw(),), path=COMPLETIONS)
            sent = wallet.send(wallet.config_of(worker.document), request)
            head = (
                f"POST /gateway HTTP/1.1\r\nhost: x\r\ncontent-type: {sent.media_type}\r\n"
                f"content-length: {len(sent.encapsulated) + missing}\r\n\r\n"
            )
            with socket.create_connection(("127.0.0.1", httpx.URL(worker.url).port)) as slow:
                slow.sendall(head.encode() + sent.encapsulated)
                status = slow.recv(12)
            assert status == (b"HTTP/1.1 408" if missing else b"HTTP/1.1 200")
        assert_nothing_is_left(worker, needles)
