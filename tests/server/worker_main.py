"""Run one worker, with the fake parts unless told: `-m tests.server.worker_main CONFIG.json`."""

# The parts are imported by their roles, as the real ones are.
# ruff: noqa: PLC0415

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

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


def _application() -> object:
    from tests.server.fake_parts import FakeApplication

    return FakeApplication


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
    real, lying = members.pop("real", False), members.pop("lying", False)
    config = WorkerConfig(engine=engine, **members)
    parts = PARTS if real else Parts(_engine, _application, PARTS.attester, PARTS.gpus)
    run(config, replace(parts, engine=_lying) if lying else parts)


if __name__ == "__main__":
    main()
