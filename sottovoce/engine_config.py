"""The engine configuration of a worker; whoever publishes its policy must derive the same."""

from __future__ import annotations

from pathlib import Path

from engine.config import EngineConfig


def worker_engine(model: Path) -> EngineConfig:
    """Return the engine's configuration for a model folder; its policy follows from it."""
    return EngineConfig(model=model)
