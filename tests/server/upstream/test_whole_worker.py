"""A whole worker, its own processes and all, in front of another engine; and one of two ranks."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from attestation.verifier.engine_policy import EnginePolicy
from attestation.verifier.policy import engine_weaknesses
from attestation.verifier.weakness import Weakness
from server.upstream_policy import upstream_digest, upstream_policy

FOLDER = Path(__file__).parents[3] / "engine" / "tinychat" / "model"
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12}


@pytest.fixture
def in_front(stand_in, start_worker, tokenizer):
    """A worker in front of a stand-in that always says one sentence."""
    engine = stand_in("vllm")
    engine.answer = [
        (piece, tokenizer.encode_literally(piece)) for piece in ("Good", " day", " to you.")
    ]
    engine.finish, engine.max_model_len = "stop", 2048
    upstream = {"url": engine.url, "kind": "vllm", "model": "theirs"}
    settings = {"real": True, "model": str(FOLDER), "upstream": upstream}
    with start_worker(**settings) as worker:
        worker.wait_for("WorkerReady")
        yield worker, engine


def test_a_chat_a_receipt_and_a_refusal(in_front, tokenizer):
    worker, engine = in_front
    sent, response = worker.ask(CHAT)
    answer = json.loads(response.content)
    assert answer["choices"][0]["message"]["content"] == "Good day to you."
    assert answer["choices"][0]["finish_reason"] == "stop"
    receipt = sent.check([response.content], worker.document.receipt_key)
    assert receipt.verification.mode == "none"
    assert receipt.model_digest == upstream_digest(FOLDER, "vllm")
    policy = EnginePolicy.decode(upstream_policy("vllm", "cpu"))
    assert worker.document.policy_digest == policy.digest
    assert engine_weaknesses(policy) == {
        Weakness.COMPUTE_UNVERIFIED,
        Weakness.MEMORY_NOT_ERASED,
    }
    assert engine.asked["model"] == "theirs"
    assert "Hello" in tokenizer.decode(engine.asked["prompt"])

    _, refused = worker.ask({**CHAT, "response_format": {"type": "json_object"}})
    error = json.loads(refused.content)["error"]
    assert (refused.status, error["code"]) == (400, "unsupported_by_engine")


def test_a_worker_of_two_ranks_answers_and_ends_with_its_ranks(start_worker):
    engine = {"tensor_parallel": 2, "max_model_len": 512}
    with start_worker(real=True, model=str(FOLDER), engine=engine) as worker:
        worker.wait_for("WorkerReady")
        sent, response = worker.ask({**CHAT, "temperature": 0})
        answer = json.loads(response.content)
        assert answer["choices"][0]["message"]["content"]
        sent.check([response.content], worker.document.receipt_key)

        first = worker.pid("engine")
        (behind,) = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        assert not _beyond_loopback({first, int(behind)})
        os.kill(int(behind), signal.SIGKILL)
        assert worker.process.wait(20) == 1
        assert any(line["role"] == "engine" for line in worker.logged("RoleEnded"))


def _beyond_loopback(pids):
    """Return the TCP sockets of processes that listen or speak elsewhere than on 127.0.0.1."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = str(link.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    loopback = socket.inet_aton("127.0.0.1")[::-1].hex().upper()
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    rows += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    own = [row for row in rows if row[9] in inodes]
    assert own, "the ranks speak over sockets that this test sees"
    return [row for row in own if not row[1].startswith(loopback)]
