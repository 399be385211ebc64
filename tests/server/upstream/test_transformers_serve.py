"""A real foreign server behind our slots: `transformers serve`, with the model in the box."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from engine.types import EngineState, ErrorCode, FinishReason

FOLDER = Path(__file__).parents[3] / "engine" / "tinychat" / "model"
PROGRAM = Path(__file__).with_name("serve_main.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The model in the box, in a copy that says that it may be sampled from.

    This server samples only where the model's generation_config does, whatever a request says.
    """
    copy = shutil.copytree(FOLDER, tmp_path_factory.mktemp("served") / "model")
    path = copy / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "do_sample": True}))
    return copy


@pytest.fixture(scope="module")
def url(folder):
    transformers = pytest.importorskip("transformers.utils.import_utils")
    if not transformers.is_serve_available():
        pytest.skip("transformers serve is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, PROGRAM, "serve", folder),
            *("--host", "127.0.0.1", "--port", str(port), "--device", "cpu"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 60
    while not _up(url):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)
    yield url
    process.terminate()
    process.wait(20)


def _up(url):
    try:
        return httpx.get(f"{url}/health", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def node(url, served, folder):
    return served(url, "openai", folder, model=str(folder), start_timeout_s=60.0)


def told(tokenizer, slot):
    return b"".join(map(tokenizer.text_bytes, slot.ids(0, slot.released))).decode()


def test_a_slot_says_what_the_server_says(url, node, tokenizer, folder):
    assert node.ready["max_model_len"] == 2048, node.error
    prompt = "What is a relay? It is"
    direct = httpx.post(
        f"{url}/v1/completions",
        json={"model": str(folder), "prompt": prompt, "max_tokens": 16, "temperature": 0},
        timeout=60,
    ).json()
    slot = node.finished(tokenizer.encode(prompt), max_new_tokens=16)
    assert slot.state is EngineState.FINISHED
    assert slot.finish in (FinishReason.LENGTH, FinishReason.STOP)
    assert told(tokenizer, slot) == direct["choices"][0]["text"]
    assert slot.sampled >= 4


def test_a_seed_repeats(node, tokenizer):
    prompt = tokenizer.encode("Once upon a time")
    answers = [
        told(tokenizer, node.finished(prompt, temperature=1.0, seed=seed, max_new_tokens=12))
        for seed in (7, 7, 8)
    ]
    assert answers[0] == answers[1] != answers[2]


def test_cancelling_frees_it_for_the_next(node, tokenizer, until):
    connection, slot = node.submit(tokenizer.encode("Count:"), max_new_tokens=900)
    until(connection, lambda: slot.sampled > 2)
    slot.cancel()
    connection.wake(0)
    until(connection, lambda: slot.state is EngineState.ERASED)
    assert slot.sampled < 900
    assert node.finished(tokenizer.encode("Hi"), max_new_tokens=3).state is EngineState.FINISHED


def test_it_takes_no_ids_and_is_refused_as_one_that_does(url, served, folder):
    node = served(url, "vllm", folder, model=str(folder), start_timeout_s=60.0)
    assert node.ready is None
    node.thread.join(10)
    assert "refuses the request" in str(node.error)


def test_what_it_would_pass_over_in_silence_is_refused(node, tokenizer):
    slot = node.finished(tokenizer.encode("Hi"), presence_penalty=1.0)
    assert slot.error is ErrorCode.UNSUPPORTED
