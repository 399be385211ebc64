"""The engine process: it loads a model, says so, and serves slots (`engine.slot_server`)."""

from __future__ import annotations

import gc
import json
import os
import socket
from contextlib import suppress
from functools import partial

import torch
import transformers

from engine.build import build
from engine.config import EngineConfig
from engine.loader import Progress, load
from engine.parallel.launch import joined, of_rank
from engine.parallel.torchrun import Torchrun
from engine.policy import engine_policy
from engine.slot import SlotGeometry
from engine.slot_server import SlotServer
from engine.types import SUSPECT


def run(
    control_socket_fd: int,
    config: EngineConfig,
    ready_fd: int,
    progress: Progress | None = None,
) -> None:
    """Load the model, say what is served on `ready_fd`, and serve until the control socket ends.

    The first line on `ready_fd` is a JSON object: model_digest (hex), max_model_len, vocab_size,
    max_logprobs, max_sequences, policy (the canonical engine policy as text). `progress` is told
    how many per cent of the model are loaded. A second line, `SUSPECT`, follows if a step of the
    device does not verify.

    Raises:
        ModelRefused: the model is not served; nothing was written to `ready_fd`.
        RankLost: a process of a parallel engine ended; the engine ends with it.
    """
    # The loader's progress bars and hints are nobody's log events.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = of_rank(config, 0) if config.ranks > 1 else config
    with joined(config, Torchrun.find(os.environ)) as group:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        control = socket.socket(fileno=control_socket_fd)
        loaded = load(config, progress, group)
        server = SlotServer(
            control, lambda changed: build(config, loaded, changed, partial(_alarm, ready_fd))
        )
        gc.collect()
        gc.freeze()
        os.write(ready_fd, ready_line(config, server.geometry, loaded.digest))
        server.serve()


def _alarm(ready_fd: int) -> None:
    with suppress(OSError):  # nobody listens
        os.write(ready_fd, SUSPECT)


def ready_line(config: EngineConfig, geometry: SlotGeometry, digest: bytes) -> bytes:
    """Return what `run` says once it can serve."""
    ready = {
        "model_digest": digest.hex(),
        "max_model_len": geometry.max_model_len,
        "vocab_size": geometry.vocab_size,
        "max_logprobs": geometry.max_logprobs,
        "max_sequences": config.max_sequences,
        "policy": engine_policy(config).decode(),
    }
    return json.dumps(ready).encode() + b"\n"
