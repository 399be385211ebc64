"""Run one worker, with the fake parts unless told: `-m tests.server.worker_main CONFIG.json`."""

# The parts are imported by their roles, as the real ones are.
# ruff: noqa: PLC0415

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from engine.config import EngineConfig
from server.config import DirectPort, Upstream, WorkerConfig
from server.launcher import PARTS, Parts, run


def _engine(control: int, config: WorkerConfig, ready: int) -> None:
    from tests.server import fake_parts

    fake_parts.run_engine(control, config, ready)


def _lying(control: int, config: WorkerConfig, ready: int) -> None:
    """An engine whose device changes one logit of every step that follows the probe."""
    from engine.native.device import NativeDevice

    honest = NativeDevice.step

    def step(self, batch):
        output = honest(self, batch)
        if output.transcript is not None:
            output.logits[0, 7] += 2.0
        return output

    NativeDevice.step = step
    PARTS.engine(control, config, ready)


def _noting(control: int, config: WorkerConfig, ready: int) -> None:
    """The real engine, which notes in the log what it does out of the ordinary, and how often."""
    from engine.offload.offload import Offload
    from engine.scheduler import Scheduler
    from engine.speculative import Budget
    from engine.speculative_draft import Draft
    from engine.speculative_ngram import Ngrams
    from server.logs import log_descriptor

    def note(of: type, name: str) -> None:
        original = getattr(of, name)

        def noted(*arguments):
            result = original(*arguments)
            if name == "_preempt" or result:
                os.write(log_descriptor(), b'{"event":"Noted%s"}\n' % of.__name__.encode())
            return result

        setattr(of, name, noted)

    # A draft as large as its model is never worth it; here it is asked all the same.
    Budget.choose = lambda _budget, _pace, most: min(most, 2)
    note(Scheduler, "_preempt")
    note(Offload, "come_back")
    note(Ngrams, "propose")
    note(Draft, "propose")
    PARTS.engine(control, config, ready)


def _known_keys() -> None:
    """Have the keeper draw what a test can draw as well: SHA-256 of 0, 1, 2, ..."""
    from server import keeper

    drawn = itertools.count()

    def urandom(length: int) -> bytes:
        return hashlib.sha256(b"%d" % next(drawn)).digest()[:length]

    keeper.os = SimpleNamespace(urandom=urandom)


def _unconfined(_: WorkerConfig) -> None:
    """The fake engine keeps a journal in a file."""


ENGINES = {"lying": _lying, "noting": _noting}


def _application() -> object:
    from tests.server.fake_parts import FakeApplication

    return FakeApplication


FAKE = Parts(_engine, _application, PARTS.attester, PARTS.gpus, _unconfined)


def main() -> None:
    members = json.loads(Path(sys.argv[1]).read_text())
    for name in ("model", "spent_socket", "platform_seed"):
        members[name] = Path(members[name])
    if members.get("direct"):
        keys = tuple(bytes.fromhex(key) for key in members["direct"]["keys"])
        members["direct"] = DirectPort(**members["direct"] | {"keys": keys})
    if members.get("upstream"):
        members["upstream"] = Upstream(**members["upstream"])
    engine = EngineConfig(members["model"], **members.pop("engine", {}))
    if engine.draft is not None:
        engine = replace(engine, draft=Path(engine.draft))
    real = members.pop("real", False)
    ours = [made for name, made in ENGINES.items() if members.pop(name, False)]
    if members.pop("known_keys", False):
        _known_keys()
    config = WorkerConfig(engine=engine, **members)
    parts = PARTS if real else FAKE
    run(config, replace(parts, engine=ours[0]) if ours else parts)


if __name__ == "__main__":
    main()
