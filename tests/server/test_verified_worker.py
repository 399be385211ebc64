"""A whole worker, its own processes and all, whose device is honest, or lies."""

import json
from pathlib import Path

import httpx
import pytest

from engine.native import library

try:
    library.load()
except library.NativeUnavailable as unavailable:
    pytest.skip(f"compiled kernels: {unavailable}", allow_module_level=True)

FOLDER = Path(__file__).parents[2] / "engine" / "tinychat" / "model"
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12}
CONFINED = {"keeper", "front", "engine"}
ENGINE = {"verification": "audit", "max_model_len": 512}


def test_an_honest_answer_s_receipt_counts_its_checks(start_worker):
    with start_worker(real=True, model=str(FOLDER), engine=ENGINE) as worker:
        worker.wait_for("WorkerReady")
        assert {line["role"] for line in worker.logged("RoleConfined")} == CONFINED
        assert "Seccomp:\t2" in Path(f"/proc/{worker.pid('engine')}/status").read_text()
        sent, response = worker.ask({**CHAT, "n": 2})
        assert response.status == 200
        verification = sent.check([response.content], worker.document.receipt_key).verification
        assert verification.mode == "audit"
        assert verification.checks > 100
        assert any(verification.decisions)


def test_a_lie_is_answered_with_a_failure_receipt_and_the_worker_does_no_more(start_worker):
    with start_worker(real=True, lying=True, model=str(FOLDER), engine=ENGINE) as worker:
        worker.wait_for("WorkerReady")
        for order in (CHAT, {**CHAT, "stream": True}):  # the second is not even begun
            sent, response = worker.ask(order)
            assert response.status == 503
            answer = json.loads(response.content)
            assert answer["error"]["code"] == "verification_failed"
            assert "choices" not in answer
            receipt = sent.check([response.content], worker.document.receipt_key)
            assert receipt.verification.mode == "audit"
            assert receipt.completion_tokens == 0
        worker.wait_for("AcceleratorSuspect")
        health = httpx.get(f"{worker.url}/health", trust_env=False)
        assert (health.status_code, health.json()["status"]) == (503, "suspect")
