"""A small model's folder, an engine that plays a script in real slots, and the SDK on top."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import httpx2
import openai
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.slot import Command, Slot, SlotGeometry
from engine.types import EngineState, ErrorCode, FinishReason, VerificationCounts
from server.openai.application import Application, ServedModel
from server.openai.errors import ApiError, error_body
from server.openai.outputs import Body, Event, Head

MODEL = "small/test-model"
NOW = 1_700_000_000
CANARY = "CANARYx91"

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Sphinx of black quartz, judge my vow!",
    'To call a tool, write {"name": "get_weather", "arguments": {"city": "Paris"}} and wait.',
    "<tool_call> </tool_call> system user assistant tool",
]

TEMPLATE = """\
{%- if messages[0].role == 'assistant' %}
{{- raise_exception('no: ' + messages[0].content) }}
{%- endif %}
{%- for message in messages %}
{{- '<|start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>\\n' + call.function | tojson + '\\n</tool_call>' }}
{%- endfor %}
{{- '<|end|>\\n' }}
{%- endfor %}
{%- if tools %}{{ tools | tojson }}{% endif %}
{%- if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}
"""


def train_tokenizer(markers: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<|bos|>", "<|end|>", "<|start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if markers:
        plain = [AddedToken(t, special=False) for t in ("<tool_call>", "</tool_call>", "<think>")]
        tokenizer.add_tokens(plain)
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer()


def write_folder(
    folder: Path, tokenizer: Tokenizer, template: str | None, **generation: object
) -> Path:
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<|bos|>", "eos_token": {"content": "<|end|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory, tokenizer) -> Path:
    return write_folder(tmp_path_factory.mktemp("models") / "small", tokenizer, TEMPLATE)


def served(folder: Path, vocab_size: int, **changes) -> ServedModel:
    values = {
        "name": MODEL,
        "folder": folder,
        "max_model_len": 2048,
        "vocab_size": vocab_size,
        "created": 1_600_000_000,
        "token_budget": 1024,
        "digest": bytes(range(32)),
    }
    return ServedModel(**{**values, **changes})


@pytest.fixture(scope="session")
def vocab_size(tokenizer) -> int:
    return tokenizer.get_vocab_size() + 7  # padded, as real embeddings are


@pytest.fixture(scope="session")
def application(folder, vocab_size) -> Application:
    return Application(served(folder, vocab_size), clock=lambda: NOW)


def allowed(mask: bytes, token_id: int) -> bool:
    return bool(mask[token_id // 8] >> token_id % 8 & 1)


class Misuse(BaseException):
    """A complaint of the engine's; no Exception, so that no plan makes an ApiError of it."""


Choose = Callable[[int, int, bytes | None], int]


@dataclass
class ScriptedEngine:
    """EngineConnection's interface over real slots, whose engine side plays a script.

    `scripts[i]` are the ids of slot i (the last script serves all further slots); `choose` takes
    their place if given. Ids come `burst` a turn, are released `lag` behind, and a slot reads
    ERASED `erase_after` turns after it was done. Only slots that were woken are looked at.
    """

    geometry: SlotGeometry
    scripts: Sequence[Sequence[int]] = ((),)
    choose: Choose | None = None
    burst: int = 1
    lag: int = 0
    erase_after: int = 1
    fail_at: int | None = None
    error: ErrorCode = ErrorCode.STEP_FAILED
    top_ids: Sequence[int] = tuple(range(40, 60))
    slots: list[Slot] = field(default_factory=list)
    requests: list = field(default_factory=list)
    prompts: list = field(default_factory=list)
    erased: set[int] = field(default_factory=set)
    _woken: set[int] = field(default_factory=set)
    _dying: dict[int, int] = field(default_factory=dict)

    def open_slots(self, count: int) -> list[Slot]:
        opened = [Slot.create(self.geometry) for _ in range(count)]
        self.slots += opened
        self.requests += [None] * count
        self.prompts += [None] * count
        return opened

    def wake(self, index: int) -> None:
        self._woken.add(index)

    def wait(self, timeout: float | None = None) -> set[int]:
        assert timeout is None
        changed = {i for i in range(len(self.slots)) if self._turn(i)}
        if not changed and not self._dying:
            raise Misuse("the capsule waits and nothing will ever come")
        return changed

    def close(self) -> None:
        for slot in self.slots:
            slot.close()

    @property
    def all_erased(self) -> bool:
        return len(self.erased) == len(self.slots)

    def _turn(self, index: int) -> bool:
        slot = self.slots[index]
        if index in self.erased:
            return False
        if index in self._dying:
            self._dying[index] -= 1
            return self._erase(index) if self._dying[index] <= 0 else False
        if index in self._woken and slot.command in (Command.DONE, Command.CANCEL):
            self._dying[index] = self.erase_after
            return False
        if self.requests[index] is None:
            return index in self._woken and self._accept(index)
        if slot.state is EngineState.RUNNING:
            return self._run(index)
        return False

    def _accept(self, index: int) -> bool:
        slot = self.slots[index]
        assert slot.command is Command.SUBMIT
        request = slot.request()
        self.requests[index] = request
        data = bytes(slot.prompt_buffer())
        self.prompts[index] = list(struct.unpack(f"<{len(data) // 4}I", data))
        for position in range(len(self.prompts[index])):
            self._write_row(
                index, position, self.prompts[index][position], request.params.prompt_logprobs
            )
        slot.set_state(EngineState.RUNNING)
        if request.params.max_new_tokens == 0:
            slot.set_state(EngineState.FINISHED, finish=FinishReason.LENGTH)
        self._woken.discard(index)
        return True

    def _run(self, index: int) -> bool:
        slot, params = self.slots[index], self.requests[index].params
        moved = False
        for _ in range(self.burst):
            if params.constrained and slot.mask_for != slot.sampled + 1:
                break
            if self.fail_at is not None and slot.sampled >= self.fail_at:
                slot.erase()
                slot.set_state(EngineState.FAILED, finish=FinishReason.FAILED, error=self.error)
                return True
            moved = True
            if self._sample(index):
                return True
        self._woken.discard(index)
        return moved

    def _sample(self, index: int) -> bool:
        slot, request = self.slots[index], self.requests[index]
        params, position = request.params, slot.sampled
        mask = bytes(slot.mask_buffer()) if params.constrained else None
        token_id = self._next(index, position, mask)
        if mask is not None and not allowed(mask, token_id):
            raise Misuse(f"the mask forbids {token_id} at {position}")
        slot.output_buffer().cast("I")[position] = token_id
        row = len(self.prompts[index]) + position
        self._write_row(index, row, token_id, params.logprobs)
        slot.publish_sampled(position + 1)
        ended = token_id in params.eos_ids and not params.ignore_eos
        full = position + 1 == params.max_new_tokens
        self._release(slot, position + 1 - (0 if ended or full else self.lag))
        if ended or full:
            reason = FinishReason.STOP if ended else FinishReason.LENGTH
            slot.set_state(EngineState.FINISHED, finish=reason)
        return ended or full

    def _next(self, index: int, position: int, mask: bytes | None) -> int:
        if self.choose is not None:
            return self.choose(index, position, mask)
        script = self.scripts[min(index, len(self.scripts) - 1)]
        return (
            script[position] if position < len(script) else self.requests[index].params.eos_ids[0]
        )

    def _release(self, slot: Slot, released: int) -> None:
        if released >= 0:
            digest = bytes([released % 256]) * 32
            slot.publish_released(released, VerificationCounts(released, digest, 1, 2, 3))

    def _write_row(self, index: int, row: int, token_id: int, top: int) -> None:
        if top < 0:
            return
        rows = self.slots[index].rows_buffer()
        words, floats = rows.cast("I"), rows.cast("f")
        first = row * self.geometry.row_words
        floats[first] = logprob_of(token_id)
        for at, other in enumerate(self.top_ids[:top]):
            words[first + 1 + at] = other
            floats[first + 1 + self.geometry.max_logprobs + at] = logprob_of(other)

    def _erase(self, index: int) -> bool:
        self.slots[index].erase()
        self.slots[index].set_state(EngineState.ERASED)
        self.erased.add(index)
        del self._dying[index]
        return True


def logprob_of(token_id: int) -> float:
    return float("-inf") if token_id == 41 else -(token_id % 13) / 8 - 0.125


@dataclass
class Answered:
    """The outputs of one request, taken apart."""

    outputs: list
    plan: object
    engine: ScriptedEngine

    @property
    def head(self) -> Head:
        return self.outputs[0]

    @property
    def body(self) -> dict:
        (body,) = self.outputs[1:]
        assert isinstance(body, Body)
        return json.loads(body.payload)

    @property
    def chunks(self) -> list[dict]:
        events = self.outputs[1:]
        assert all(isinstance(event, Event) for event in events)
        assert events[-1] == Event(b"[DONE]")
        assert [event.last for event in events] == [False] * (len(events) - 2) + [True, False]
        return [json.loads(event.payload) for event in events[:-1]]

    @property
    def choice(self) -> dict:
        (choice,) = self.body["choices"]
        return choice

    def text(self, index: int = 0) -> str:
        """The content of one choice of a streamed chat."""
        choices = [c for chunk in self.chunks for c in chunk["choices"] if c["index"] == index]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


class Server:
    """Asks an application as a capsule does: prepare, then run on an engine of its own."""

    def __init__(self, application: Application, tokenizer: Tokenizer, vocab_size: int) -> None:
        self.application = application
        self.tokenizer = tokenizer
        self.geometry = SlotGeometry(2048, vocab_size)
        self.end = tokenizer.token_to_id("<|end|>")
        self.seeds = iter(range(1_000, 2_000))
        self._engines: list[ScriptedEngine] = []

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def script(self, *texts: str) -> list[list[int]]:
        return [[*self.ids(text), self.end] for text in texts]

    def engine(self, *texts: str, **options) -> ScriptedEngine:
        options.setdefault("scripts", self.script(*texts) or [[self.end]])
        engine = ScriptedEngine(self.geometry, **options)
        self._engines.append(engine)
        return engine

    def ask(self, path: str, body: object, *texts: str, **options) -> Answered:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        plan = self.application.prepare(b"POST", path.encode(), data)
        engine = options.pop("engine", None) or self.engine(*texts, **options)
        outputs = []
        for output in plan.run(engine, lambda: next(self.seeds), NOW):
            if getattr(output, "last", False):
                assert engine.all_erased, "the receipt must wait for erasure"
                assert re.search(rb',"attestation":null\}\}?$', output.payload)
            else:
                assert b'"attestation"' not in getattr(output, "payload", b"")
            outputs.append(output)
        return Answered(outputs, plan, engine)

    def chat(self, *texts: str, engine_options: dict | None = None, **body) -> Answered:
        request = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **body}
        return self.ask("/v1/chat/completions", request, *texts, **(engine_options or {}))

    def complete(self, *texts: str, engine_options: dict | None = None, **body) -> Answered:
        request = {"model": MODEL, "prompt": "Once", **body}
        return self.ask("/v1/completions", request, *texts, **(engine_options or {}))

    def prepare_chat(self, **body) -> object:
        request = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **body}
        data = json.dumps(request).encode()
        return self.application.prepare(b"POST", b"/v1/chat/completions", data)

    def refuse_chat(self, **body) -> ApiError:
        with pytest.raises(ApiError) as refused:
            self.prepare_chat(**body)
        return refused.value

    def refuse_completion(self, **body) -> ApiError:
        request = {"model": MODEL, "prompt": "Once", **body}
        with pytest.raises(ApiError) as refused:
            self.application.prepare(b"POST", b"/v1/completions", json.dumps(request).encode())
        return refused.value

    def close(self) -> None:
        for engine in self._engines:
            engine.close()


@pytest.fixture
def server(application, tokenizer, vocab_size) -> Iterator[Server]:
    server = Server(application, tokenizer, vocab_size)
    yield server
    server.close()


@pytest.fixture
def make_server(tokenizer, vocab_size) -> Iterator[Callable[..., Server]]:
    made = []

    def make(folder: Path, tokenizer: Tokenizer = tokenizer, **changes) -> Server:
        application = Application(served(folder, vocab_size, **changes), clock=lambda: NOW)
        made.append(Server(application, tokenizer, vocab_size))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def sdk(server) -> SimpleNamespace:
    """The OpenAI SDK's client over the application; `sdk.engine(...)` sets the next engine."""
    engines: list[ScriptedEngine] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        try:
            method, path = request.method.encode(), request.url.raw_path
            plan = server.application.prepare(method, path, request.content)
            engine = engines.pop(0) if engines else server.engine()
            head, *rest = plan.run(engine, lambda: 7, NOW)
        except ApiError as error:
            return httpx2.Response(error.status, content=error_body(error))
        lines = b"".join(
            b"data: " + o.payload + b"\n\n" if isinstance(o, Event) else o.payload for o in rest
        )
        headers = [(name.decode(), value.decode()) for name, value in head.headers]
        return httpx2.Response(head.status, headers=headers, content=lines)

    client = openai.OpenAI(
        api_key="any",
        base_url="http://test/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(handle)),
    )

    def script(*texts: str, **options) -> ScriptedEngine:
        engines.append(server.engine(*texts, **options))
        return engines[-1]

    return SimpleNamespace(client=client, engine=script)
