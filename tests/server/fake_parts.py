"""An application and an engine small enough to be told what to do by the request itself.

The body of a request is JSON; every member is optional:

    stream      an event stream instead of one body
    tokens      how many ids to generate (default 3)
    delay       milliseconds for each
    held        the engine gives none before the test says so (`Worker.let_go`)
    price       tokens the request costs
    prompt      any text; repeated in the answer
    invalid     refuse the request as OpenAI would
    fail        "prepare", "run", "midstream": raise an error whose text is the prompt
                "stderr": write the prompt to standard error, in Python and natively
                "exit", "midexit": end the process at once, before or after the first event
    show        "escapes": try everything a capsule must not do; answer with what succeeded
                "another": ask the keeper for the context of `another`, the hex of somebody
                else's request; say in an event what came

The engine keeps a journal of what happens to its slots, so that tests can read it.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.connection import EngineConnection
from engine.slot import Command, Slot, SlotGeometry
from engine.types import (
    EngineState,
    ErrorCode,
    FinishReason,
    SamplingParams,
    VerificationCounts,
)
from server.config import WorkerConfig
from server.errors import ServerError
from server.openai.errors import ApiError
from server.openai.outputs import Body, Event, Head, Output, Usage
from wire import canonical_json, ohttp

GEOMETRY = SlotGeometry(max_model_len=512, vocab_size=1000)
MODEL_DIGEST = bytes(range(32))
DECISIONS = b"d" * 32
HELD = 999
"""The delay that means: until the test says so."""
POLICY = canonical_json.encode(
    {
        "version": 1,
        "verification": "audit",
        "transfers": "none",
        "prefix_cache": "request",
        "device": "cpu",
        "optimisations": {},
    }
)


# ---- application ----


class FakeApplication:
    def __init__(self, _: Any = None) -> None:
        self.prepared = 0

    def prepare(self, _method: bytes, _path: bytes, body: bytes) -> FakePlan:
        self.prepared += 1
        order = json.loads(body)
        if order.get("invalid"):
            raise ApiError(400, "invalid_request_error", "bad_value", "No.", "invalid")
        if order.get("fail") == "prepare":
            raise RuntimeError(order["prompt"])
        return FakePlan(order)

    def rehearse(self, engine: EngineConnection) -> None:
        assert list(FakePlan({"tokens": 1}).run(engine, lambda: 0, 0))


@dataclass
class FakePlan:
    order: dict[str, Any]
    _counts: VerificationCounts | None = None
    _generated: int = 0

    @property
    def tokens_needed(self) -> int:
        return self.order.get("price", 1)

    @property
    def streamed(self) -> bool:
        return self.order.get("stream", False)

    def tokens_used(self) -> int:
        return self.order.get("used", self.tokens_needed)

    def run(
        self, engine: EngineConnection, rng_seed: Callable[[], int], _now: int
    ) -> Iterator[Output]:
        self._misbehave("run")
        content_type = b"text/event-stream" if self.streamed else b"application/json"
        yield Head(200, ((b"content-type", content_type),))
        if self.order.get("show") == "another":
            yield Event(
                json.dumps({"stolen": _steal(bytes.fromhex(self.order["another"]))}).encode()
            )
        ids = []
        for token in self._generate(engine, rng_seed()):
            ids.append(token)
            if self.streamed:
                yield Event(json.dumps({"id": token, "said": self.order.get("prompt")}).encode())
                self._misbehave("midstream")
        self._generated = len(ids)
        answer = {"ids": ids, "said": self.order.get("prompt"), "shown": self._show()}
        payload = json.dumps(answer).encode()[:-1] + b',"attestation":null}'
        if not self.streamed:
            yield Body(payload)
            return
        yield Event(payload, last=True)
        yield Event(b"[DONE]")

    def _generate(self, engine: EngineConnection, seed: int) -> Iterator[int]:
        (slot,) = engine.open_slots(1)
        params = SamplingParams(max_new_tokens=self.order.get("tokens", 3), seed=seed)
        delay = HELD if self.order.get("held") else self.order.get("delay", 0)
        slot.submit([delay, 7], params, group=0, index_in_group=0)
        engine.wake(0)
        seen = 0
        while slot.state is not EngineState.ERASED:
            for token in slot.ids(seen, slot.released):
                seen += 1
                yield token
            if slot.state is EngineState.FINISHED and seen == slot.released:
                slot.done()
                engine.wake(0)
            engine.wait()
        self._counts = slot.counts()

    def _misbehave(self, when: str) -> None:
        fail, prompt = self.order.get("fail"), self.order.get("prompt", "")
        if fail == when:
            raise RuntimeError(prompt)
        if (fail, when) in (("exit", "run"), ("midexit", "midstream")):
            os._exit(3)
        if fail == "stderr":
            print(prompt, file=sys.stderr, flush=True)  # noqa: T201
            libc = ctypes.CDLL(None)
            libc.dprintf(2, b"%s\n", prompt.encode())

    def _show(self) -> Any:
        if self.order.get("show") == "escapes":
            return [name for name, attempt in ESCAPES.items() if _succeeds(attempt)]
        return None

    def usage(self) -> Usage:
        return Usage(2, self._generated)

    def counts(self) -> VerificationCounts:
        assert self._counts is not None
        return self._counts


def _steal(request: bytes) -> bool:
    """Find the capsule's own way to the keeper, up the stack, and use it for another request."""
    frame = sys._getframe()
    while not hasattr(frame.f_locals.get("self"), "_keeper"):
        assert frame.f_back is not None
        frame = frame.f_back
    keeper = frame.f_locals["self"]._keeper
    header, enc, _ = ohttp.split(request)
    try:
        keeper.context(header, enc, chunked=True)
    except (ServerError, OSError):
        return False
    return True


def _succeeds(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except (OSError, RuntimeError):
        return False
    return True


ESCAPES: dict[str, Callable[[], Any]] = {
    "read a file": lambda: Path("/etc/hostname").read_text(),
    "write a file": lambda: Path("/tmp/escaped").write_text("x"),
    "list a folder": lambda: list(Path("/proc").iterdir()),
    "make a socket": lambda: socket.socket(socket.AF_INET),
    "make a unix socket": lambda: socket.socket(socket.AF_UNIX),
    "make a socket pair": socket.socketpair,
    "make a pipe": os.pipe,
    "start a program": lambda: os.execv("/bin/true", ["true"]),
    "start a process": os.fork,
    "start a thread": lambda: threading.Thread(target=int).start(),
    "signal its parent": lambda: os.kill(os.getppid(), 0),
    "open another process": lambda: os.pidfd_open(os.getppid()),
    "change its user": lambda: os.setuid(os.getuid()),
    "become dumpable": lambda: _refused(ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)),
    "trace its parent": lambda: _refused(ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)),
    "read its parent": lambda: _refused(
        ctypes.CDLL(None).process_vm_readv(os.getppid(), None, 0, None, 0, 0)
    ),
}


def _refused(result: int) -> None:
    if result < 0:
        raise OSError


# ---- engine ----


@dataclass
class Sequence:
    slot: Slot
    delay: float = 0.0
    limit: int = 0
    next_at: float = 0.0
    running: bool = False
    held: bool = False


@dataclass
class FakeEngine:
    """Ids 0, 1, 2, ... at the delay that the first id of the prompt names, in milliseconds."""

    note: Callable[[str], None] = lambda _: None
    let_go: Callable[[], bool] = lambda: False
    """Whether held sequences may go on."""
    capsules: dict[socket.socket, dict[int, Sequence]] = field(default_factory=dict)
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def adopt(self, capsule: socket.socket) -> None:
        self.capsules[capsule] = {}
        self.selector.register(capsule, selectors.EVENT_READ, capsule)

    def turn(self, timeout: float | None) -> list[Any]:
        """Serve the capsules once; return the keys of other registered files that are ready."""
        now = time.monotonic()
        if any(s.running for slots in self.capsules.values() for s in slots.values()):
            timeout = 0.002
        others = []
        for key, _ in self.selector.select(timeout):
            if key.data is None:
                others.append(key)
            else:
                self._on_packet(key.data)
        for capsule, slots in list(self.capsules.items()):
            for index, sequence in slots.items():
                if sequence.held and self.let_go():
                    sequence.held = False
                if sequence.running and not sequence.held and sequence.next_at <= now:
                    self._step(capsule, index, sequence)
        return others

    def _on_packet(self, capsule: socket.socket) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(capsule, 1, 1)
        except ConnectionResetError:  # it ended with wake-ups unread
            data, fds = b"", []
        if not data:
            self._drop(capsule)
            return
        slots = self.capsules[capsule]
        if fds:
            slots[data[0]] = Sequence(Slot.attach(fds[0], GEOMETRY))
            return
        sequence = slots[data[0]]
        command = sequence.slot.command
        if command is Command.SUBMIT and not sequence.running:
            self._submit(sequence)
        elif command in (Command.DONE, Command.CANCEL):
            self._erase(sequence, "done" if command is Command.DONE else "cancel")
            self._wake(capsule, data[0])

    def _submit(self, sequence: Sequence) -> None:
        request = sequence.slot.request()
        delay = struct.unpack_from("<I", sequence.slot.prompt_buffer())[0]
        sequence.held = delay == HELD
        sequence.delay = 0 if sequence.held else delay / 1000
        sequence.limit = request.params.max_new_tokens
        sequence.next_at = time.monotonic() + sequence.delay
        sequence.running = True
        sequence.slot.set_state(EngineState.RUNNING)
        self.note("submit")

    def _step(self, capsule: socket.socket, index: int, sequence: Sequence) -> None:
        slot, count = sequence.slot, sequence.slot.sampled
        if count >= sequence.limit:
            sequence.running = False
            slot.set_state(EngineState.FINISHED, finish=FinishReason.LENGTH)
        else:
            struct.pack_into("<I", slot.output_buffer(), 4 * count, count)
            slot.publish_sampled(count + 1)
            slot.publish_released(count + 1, VerificationCounts(count + 1, DECISIONS, 0, 0, 0))
            sequence.next_at = time.monotonic() + sequence.delay
        self._wake(capsule, index)

    def _wake(self, capsule: socket.socket, index: int) -> None:
        try:
            capsule.send(bytes([index]))
        except OSError:
            return

    def _erase(self, sequence: Sequence, why: str) -> None:
        sequence.running = False
        finish = sequence.slot.finish or FinishReason.ABORTED
        if sequence.slot.state is not EngineState.ERASED:
            sequence.slot.erase()
            sequence.slot.set_state(EngineState.ERASED, finish=finish, error=ErrorCode.NONE)
            self.note(f"erased {why}")

    def _drop(self, capsule: socket.socket) -> None:
        self.selector.unregister(capsule)
        for sequence in self.capsules.pop(capsule).values():
            self._erase(sequence, "gone")
        capsule.close()


def ready_line() -> bytes:
    members = {
        "model_digest": MODEL_DIGEST.hex(),
        "max_model_len": GEOMETRY.max_model_len,
        "vocab_size": GEOMETRY.vocab_size,
        "policy": POLICY.decode(),
        "max_sequences": 8,
    }
    return json.dumps(members).encode() + b"\n"


def run_engine(control: int, config: WorkerConfig, ready: int) -> None:
    journal = Path(config.model) / "engine.journal"

    def note(line: str) -> None:
        with journal.open("a") as file:
            file.write(line + "\n")

    engine = FakeEngine(note, journal.with_name("engine.go").exists)
    control_socket = socket.socket(fileno=control)
    engine.selector.register(control_socket, selectors.EVENT_READ, None)
    os.write(ready, ready_line())
    os.close(ready)
    while True:
        if engine.turn(None):
            data, fds, _, _ = socket.recv_fds(control_socket, 1, 1)
            if not data:
                return
            engine.adopt(socket.socket(fileno=fds[0]))
