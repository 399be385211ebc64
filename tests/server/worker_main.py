"""Run one worker with the fake parts: `python -m tests.server.worker_main CONFIG.json`."""

# The parts are imported by their roles, as the real ones are.
# ruff: noqa: PLC0415

from __future__ import annotations

import json
import sys
from pathlib import Path

from engine.config import EngineConfig
from server.config import WorkerConfig
from server.launcher import PARTS, Parts, run


def _engine(control: int, config: WorkerConfig, ready: int) -> None:
    from tests.server import fake_parts

    fake_parts.run_engine(control, config, ready)


def _application() -> object:
    from tests.server.fake_parts import FakeApplication

    return FakeApplication


def main() -> None:
    members = json.loads(Path(sys.argv[1]).read_text())
    for name in ("model", "spent_socket", "platform_seed"):
        members[name] = Path(members[name])
    config = WorkerConfig(engine=EngineConfig(members["model"]), **members)
    run(config, Parts(_engine, _application, PARTS.attester, PARTS.gpus))


if __name__ == "__main__":
    main()
