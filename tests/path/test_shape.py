"""What sizes tell to whoever sees the bytes between a client and the relay: a class, and no more.

Read off the raw bytes of real processes, while both OpenAI SDKs read the same padded answers.
"""

import json
import shutil
import socket
import subprocess
from pathlib import Path

import httpx
import openai
import pytest
from tap import Tap

from sottovoce.local import ISSUER, RELAY
from wire import varint
from wire.padding import EVENT_SIZE

pytestmark = pytest.mark.xdist_group("stack")

MODEL = "tinychat"
INTEROP = Path(__file__).parents[1] / "interop"
VOCABULARY = json.loads(
    (Path(__file__).parents[2] / "engine/tinychat/model/tokenizer.json").read_text()
)["model"]["vocab"]

WORDS = [token for token in VOCABULARY if token[0] == "Ġ" and token[1:].isalpha()]
SHORT, LONG = "!", max(WORDS, key=len)
PIECE = EVENT_SIZE + 2 + 16
LAST = 4096 + 2 + 16
TOKENS = 8


class Observer:
    """A proxy of its own whose way to the relay is tapped."""

    def __init__(self, stack):
        self._tap = Tap(stack.local.port(RELAY))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        stack.supervisor.start(
            "observed-proxy", "proxy",
            "--trust", str(stack.local.trust), "--relay", self._tap.url,
            "--issuer", stack.local.url(ISSUER), "--account-key", str(stack.local.account_file),
            "--state", str(stack.local.directory("observed-proxy")),
            "--accept", "simulated", "--accept", "compute-unverified", "--port", str(port),
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{port}"
        stack.until(self._healthy)

    def _healthy(self):
        try:
            return httpx.get(f"{self.url}/health", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def seen(self, ask):
        """Do `ask`; return what it gives, and the one exchange that crossed meanwhile."""
        before = [len(exchanges(connection)) for connection in self._tap.connections]
        answer = ask()
        new = []
        for index, connection in enumerate(self._tap.connections):
            new += exchanges(connection)[before[index] if index < len(before) else 0 :]
        assert len(new) == 1
        return answer, new[0]

    def post(self, **members):
        request = {"model": MODEL, "max_tokens": 4, **members}
        return httpx.post(
            f"{self.url}/v1/chat/completions", json=request, timeout=60, trust_env=False
        )


def exchanges(connection):
    """The encapsulated requests of one connection, with their responses, as they crossed."""
    came, went = (b"".join(half) for half in connection)
    pairs = zip(messages(came), messages(went), strict=False)
    return [(request, response) for request, response in pairs if request[0].startswith(b"POST")]


def messages(data):
    """Cut one direction of a connection into HTTP messages: (header section, body)."""
    while b"\r\n\r\n" in data:
        head, data = data.split(b"\r\n\r\n", 1)
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        body = b""
        if b"transfer-encoding" in fields:
            size = -1
            while size:
                line, data = data.split(b"\r\n", 1)
                size = int(line, 16)
                body, data = body + data[:size], data[size + 2 :]
        else:
            length = int(fields.get(b"content-length", b"0"))
            body, data = data[:length], data[length:]
        yield head, body


def chunk_lengths(body):
    """The lengths that stand in clear in a chunked response; the last is the final chunk's."""
    found, at = [], 16
    while at < len(body):
        length, at = varint.decode(body, at)
        found.append(length or len(body) - at)
        at += found[-1]
    return found


@pytest.fixture(scope="module")
def observer(stack):
    return Observer(stack)


def say(text):
    return [{"role": "user", "content": text}]


def test_prompts_of_one_class_make_requests_of_one_length(observer):
    seen = {}
    for length in (1, 2, 75, 400, 600):
        answer, (request, _) = observer.seen(
            lambda n=length: observer.post(messages=say("the " * n))
        )
        assert answer.status_code == 200, answer.text
        seen[length] = (len(request[0]), len(request[1]))
    assert len(set(seen.values())) == 1, seen
    _, (larger, _) = observer.seen(lambda: observer.post(messages=say("a " * 2500)))
    assert len(larger[1]) - seen[1][1] == 4096


def test_whatever_a_request_asks_for_does_not_show(observer):
    asked = [
        {"messages": say("a")},
        {"messages": say("a"), "stream": True},
        {"messages": say("a"), "temperature": 0.25, "seed": 17, "stop": ["x", "y"]},
        {"messages": say("a"), "logprobs": True, "top_logprobs": 20, "n": 2},
    ]
    lengths = set()
    for members in asked:
        answer, (request, _) = observer.seen(lambda each=members: observer.post(**each))
        assert answer.status_code == 200, answer.text
        lengths.add((len(request[0]), len(request[1])))
    assert len(lengths) == 1


def test_answers_and_errors_of_one_class_have_one_length(observer):
    asked = {
        "a short answer": (200, {"messages": say("Hello"), "max_tokens": 1}),
        "a longer one": (200, {"messages": say("Hello"), "max_tokens": 60}),
        "with log-probabilities": (
            200,
            {"messages": say("Hello"), "max_tokens": 2, "logprobs": True, "top_logprobs": 2},
        ),
        "a bad parameter": (400, {"messages": say("Hello"), "temperature": 9}),
        "a long prompt": (400, {"messages": say("word " * 5000)}),
    }
    seen = {}
    for name, (status, members) in asked.items():
        answer, (_, response) = observer.seen(lambda each=members: observer.post(**each))
        assert answer.status_code == status, answer.text
        seen[name] = (response[0], len(response[1]), tuple(chunk_lengths(response[1])))
    assert len(set(seen.values())) == 1, seen


def with_python(observer, request):
    with openai.OpenAI(base_url=f"{observer.url}/v1", api_key="x", max_retries=0) as client:
        return [chunk.to_dict() for chunk in client.chat.completions.create(**request)]


def with_node(observer, request):
    if not (INTEROP / "node_modules/openai").exists() or shutil.which("node") is None:
        pytest.skip("the npm clients are not installed: run `make interop`")
    program = ["node", str(INTEROP / "chat.mjs"), f"{observer.url}/v1", json.dumps(request)]
    run = subprocess.run(program, check=True, timeout=60, capture_output=True, text=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.parametrize("sdk", [with_python, with_node])
def test_streams_of_short_and_of_long_tokens_look_the_same(observer, sdk):
    shapes = {}
    for token in (SHORT, LONG):
        request = {
            "model": MODEL,
            "messages": say("Hello"),
            "stream": True,
            "max_tokens": TOKENS,
            "logit_bias": {str(VOCABULARY[token]): 100},
        }
        chunks, (_, response) = observer.seen(lambda each=request: sdk(observer, each))
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
        assert text.strip() == (token.replace("Ġ", " ") * TOKENS).strip()
        assert all(step["outcome"] == "pass" for step in chunks[-1]["attestation"]["verification"])
        shapes[token] = (response[0], chunk_lengths(response[1]))
    assert shapes[SHORT] == shapes[LONG]
    _, *events, last, done, _ = shapes[SHORT][1]
    assert set(events) == {PIECE} == {done}
    assert last == LAST
    assert len(events) >= TOKENS


def test_long_events_are_more_pieces_and_not_longer_ones(observer):
    request = {"messages": say("Hello"), "stream": True, "max_tokens": TOKENS}
    plain = observer.seen(lambda: observer.post(**request))[1]
    verbose = observer.seen(lambda: observer.post(**request, logprobs=True, top_logprobs=20))[1]
    sizes = [chunk_lengths(response[1]) for _, response in (plain, verbose)]
    assert len(sizes[1]) > len(sizes[0])
    assert set(sizes[1]) == set(sizes[0])
