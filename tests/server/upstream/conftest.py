"""Other engines: stand-ins that answer as vLLM, SGLang and plain servers document, and slots."""

import json
import os
import socket
import socketserver
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.connection import EngineConnection
from engine.slot import SlotGeometry
from engine.types import EngineState, SamplingParams
from server import upstream
from server.config import Upstream, WorkerConfig
from server.openai.model_files import ModelFiles
from server.openai.tokenizer import Tokenizer

FOLDER = Path(__file__).parents[3] / "engine" / "tinychat" / "model"


@dataclass
class StandIn:
    """A server that says what it is told to say, and remembers what it was asked."""

    kind: str
    answer: list = field(default_factory=list)
    """Pairs (text, ids) of the next answers; one event each."""
    finish: str | None = "length"
    done: bool = True
    status: int = 200
    pause: float = 0.0
    logprobs: bool = True
    max_model_len: int | None = 300
    bodies: list = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    @property
    def asked(self):
        """The last request after those made at the start."""
        return self.bodies[-1]

    def events(self, body):
        for text, ids in self.answer[: body["max_tokens"]]:
            choice = {"index": 0, "text": text, "finish_reason": None}
            if body.get("return_token_ids") and self.kind == "vllm":
                choice["token_ids"] = ids
            if "logprobs" in body and self.logprobs:
                names = [f"token_id:{i}" for i in ids]
                choice["logprobs"] = {
                    "tokens": names,
                    "token_logprobs": [-0.5] * len(ids),
                    "top_logprobs": [{"token_id:9": -2.0, name: -0.5} for name in names],
                }
            yield {"choices": [choice]}
        if self.finish:
            yield {"choices": [{"index": 0, "text": "", "finish_reason": self.finish}]}
            yield {"choices": [], "usage": {"prompt_tokens": 1}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            self.reply(404, b"")
            return
        model = {"id": "m", "max_model_len": self.server.stand_in.max_model_len}
        self.reply(200, json.dumps({"object": "list", "data": [model]}).encode())

    def do_POST(self):
        stand_in = self.server.stand_in
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        stand_in.bodies.append(body)
        if stand_in.status != 200:
            self.reply(stand_in.status, b'{"error": {"message": "no"}}')
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        try:
            for event in stand_in.events(body):
                self.wfile.write(b"data: " + json.dumps(event).encode() + b"\r\n\r\n")
                time.sleep(stand_in.pause)
            if stand_in.done:
                self.wfile.write(b"data: [DONE]\n\n")
        except ConnectionError:
            stand_in.hung_up.set()

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return ""

    def log_message(self, *_):
        pass


class OverTcp(socketserver.ThreadingTCPServer):
    daemon_threads = True


class OverUnix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture
def stand_in(tmp_path):
    """A function (kind, *, unix=False) -> a running stand-in."""
    servers = []

    def start(kind, *, unix=False):
        made = StandIn(kind, answer=[(" a", [40]), (" b", [41])])
        server = (
            OverUnix(str(tmp_path / "engine.sock"), Handler)
            if unix
            else OverTcp(("127.0.0.1", 0), Handler)
        )
        server.stand_in = made
        made.url = (
            f"unix:{tmp_path / 'engine.sock'}"
            if unix
            else f"http://127.0.0.1:{server.server_address[1]}"
        )
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return made

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Served:
    """`server.upstream` in a thread, and what a launcher and capsules do with it."""

    def __init__(self, url, kind, folder=FOLDER, model="m", **config):
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        read, write = os.pipe()
        config = {"start_timeout_s": 3.0, **config}
        engine = EngineConfig(folder, **config.pop("engine", {}))
        made = WorkerConfig(folder, "m", engine, "h", 1, "l", "i", "n", Path("s"), **config)
        self.error = None

        def run():
            try:
                upstream.run(theirs.detach(), made, Upstream(url, kind, model), write)
            except Exception as error:  # noqa: BLE001 - kept for the test to look at
                self.error = error
                os.close(write)

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        with os.fdopen(read) as file:
            line = file.readline()
        self.ready = json.loads(line) if line else None
        self.connections = []

    def connect(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self.control, [b"c"], [theirs.fileno()])
        theirs.close()
        ready = self.ready
        geometry = SlotGeometry(ready["max_model_len"], ready["vocab_size"], ready["max_logprobs"])
        self.connections.append(EngineConnection(ours, geometry))
        return self.connections[-1]

    def submit(self, prompt, connection=None, **fields):
        connection = connection or self.connect()
        (slot,) = connection.open_slots(1)
        params = SamplingParams(**{"max_new_tokens": 5, "temperature": 0.0, **fields})
        slot.submit(prompt, params, group=1, index_in_group=0)
        connection.wake(len(connection.slots) - 1)
        return connection, slot

    def finished(self, prompt, **fields):
        """Return the slot of a prompt once no further id will come."""
        connection, slot = self.submit(prompt, **fields)
        wait_for(connection, lambda: slot.state in (EngineState.FINISHED, EngineState.FAILED))
        return slot

    def stop(self):
        self.control.close()
        self.thread.join(10)
        assert not self.thread.is_alive()
        for connection in self.connections:
            connection.close()


def wait_for(connection, condition, limit=20):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        connection.wait(end - time.monotonic())


@pytest.fixture
def served():
    """The class `Served`, whose instances are stopped afterwards."""
    made = []

    def start(*arguments, **fields):
        made.append(Served(*arguments, **fields))
        return made[-1]

    yield start
    for each in made:
        each.stop()


@pytest.fixture(scope="session")
def tokenizer():
    files = ModelFiles.load(FOLDER)
    return Tokenizer(files, files.config["vocab_size"])


@pytest.fixture
def until():
    """A function (connection, condition) that waits for a slot to change."""
    return wait_for
