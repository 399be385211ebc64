"""Another engine in our engine's place: vLLM, SGLang, or whoever speaks OpenAI's completions.

This process stands where the engine stands, behind the same slots, and drives a server that runs
beside it inside the same TEE. The launcher starts it like an engine: one control socket, one ready
line (`engine.process`). Who asks for grammars, or for parameters that the other engine is not known
to honour, is refused; what such a worker promises, and what not, is in `server.upstream_policy`.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import httpx

from engine.slot import SlotGeometry
from engine.slot_server import Changed, SlotServer
from engine.types import SamplingParams
from server.config import Upstream, WorkerConfig
from server.errors import StartError
from server.openai.model_files import ModelFiles
from server.openai.sampling import Defaults
from server.openai.tokenizer import Tokenizer
from server.upstream_client import connect, listed_models, stream, wait_until_up
from server.upstream_dialect import (
    DIALECTS,
    SALT_BYTES,
    Delta,
    Unsupported,
    UpstreamFailed,
    request_fields,
)
from server.upstream_engine import UpstreamEngine
from server.upstream_policy import upstream_digest, upstream_policy
from server.upstream_text import TextBridge


def run(control_socket_fd: int, config: WorkerConfig, upstream: Upstream, ready_fd: int) -> None:
    """Wait for the other engine, try it, say what is served on `ready_fd`, and serve.

    Ends when the control socket does.

    Raises:
        StartError: the other engine does not come up, or does not do what its kind does.
        ModelFiles: the model's folder cannot be hashed.
    """
    asyncio.run(_run(socket.socket(fileno=control_socket_fd), config, upstream, ready_fd))


class Completions:
    """The other engine as a source of ids (`server.upstream_engine.Source`)."""

    def __init__(self, client: httpx.AsyncClient, upstream: Upstream, files: ModelFiles) -> None:
        """Read the model's tokenizer and defaults.

        Raises:
            StartError: a folder that does not say what is needed, or a tokenizer that does not go
                with text.
        """
        self._client = client
        self._dialect = DIALECTS[upstream.kind]
        self._model = upstream.model
        self._defaults = Defaults.of(files)
        self.vocab_size = _number(files.config, "vocab_size")
        self._tokenizer = Tokenizer(files, self.vocab_size)
        self._bridge = None if self._dialect.returns_ids else TextBridge(self._tokenizer)

    async def complete(
        self, prompt: Sequence[int], params: SamplingParams, salt: bytes
    ) -> AsyncIterator[Delta]:
        """See `Source`."""
        sent: Sequence[int] | str = prompt
        if self._bridge is not None and not self._dialect.takes_ids:
            sent = self._bridge.prompt(prompt)
        body = {
            "model": self._model,
            "prompt": sent,
            **request_fields(self._dialect, params, salt, self._defaults),
        }
        async for delta in stream(self._client, self._dialect, body):
            if self._bridge is None:
                yield delta
            else:
                yield replace(delta, ids=tuple(self._bridge.ids(delta.text)))

    async def try_out(self) -> None:
        """Have a few tokens generated.

        Raises:
            StartError: what comes is not what this kind of engine answers.
        """
        params = SamplingParams(max_new_tokens=4, temperature=0.0)
        prompt = self._tokenizer.encode("a")
        try:
            deltas = [delta async for delta in self.complete(prompt, params, bytes(SALT_BYTES))]
        except (Unsupported, UpstreamFailed) as error:
            raise StartError(f"the upstream engine does not answer: {error}") from error
        if any(delta.text and not delta.ids for delta in deltas):
            raise StartError("the upstream engine does not return the ids of its text")


async def _run(
    control: socket.socket, config: WorkerConfig, upstream: Upstream, ready_fd: int
) -> None:
    files = ModelFiles.load(config.model)
    async with connect(upstream.url) as client:
        source = Completions(client, upstream, files)
        await wait_until_up(client, config.start_timeout_s)
        await source.try_out()
        listed = await listed_models(client)
        geometry = SlotGeometry(
            _context(config, files, listed), source.vocab_size, config.engine.max_logprobs
        )
        digest = upstream_digest(config.model, upstream.kind)
        engines: list[UpstreamEngine] = []

        def make(changed: Changed) -> tuple[UpstreamEngine, SlotGeometry]:
            engines.append(UpstreamEngine(source, changed))
            return engines[0], geometry

        server = SlotServer(control, make)
        os.write(ready_fd, _ready_line(config, upstream, geometry, digest))
        os.close(ready_fd)
        await _serve(server, engines[0])


async def _serve(server: SlotServer, engine: UpstreamEngine) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def turn() -> None:
        if not server.hear():
            loop.remove_reader(server.fileno())
            ended.set()
        server.tell()

    loop.add_reader(server.fileno(), turn)
    engine.on_change = server.tell
    await ended.wait()
    server.close()
    await engine.settled()


def _ready_line(
    config: WorkerConfig, upstream: Upstream, geometry: SlotGeometry, digest: bytes
) -> bytes:
    ready = {
        "model_digest": digest.hex(),
        "max_model_len": geometry.max_model_len,
        "vocab_size": geometry.vocab_size,
        "max_logprobs": geometry.max_logprobs,
        "max_sequences": config.engine.max_sequences,
        "policy": upstream_policy(upstream.kind, config.engine.device).decode(),
    }
    return json.dumps(ready).encode() + b"\n"


def _context(config: WorkerConfig, files: ModelFiles, listed: list[dict[str, Any]]) -> int:
    """Return the longest context: the model's, or less if engine or configuration say so."""
    wanted = config.engine.max_model_len
    lengths = [_number(files.config, "max_position_embeddings"), *([wanted] if wanted else [])]
    told = [model.get("max_model_len") for model in listed]
    lengths += [length for length in told if isinstance(length, int) and length > 0]
    return min(lengths)


def _number(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or value < 1:
        raise StartError(f"the model's config.json names no {name}")
    return value
