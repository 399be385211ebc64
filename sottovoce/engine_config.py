"""The engine configuration of a worker; whoever publishes its policy must derive the same."""

from __future__ import annotations

from pathlib import Path

from engine.config import EngineConfig


def worker_engine(model: Path, adapter: Path | None = None) -> EngineConfig:
    """Return the engine's configuration for a model folder; its policy follows from it.

    Args:
        model: the folder.
        adapter: folder of a LoRA adapter that is merged into the model.
    """
    return EngineConfig(model=model, adapter=adapter)
