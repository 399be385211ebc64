"""Engines to attack: tiny models, and slots whose capsules are in this process."""

from tests.engine.conftest import load_model, local_engine, model_folder, prompt_ids
from tests.engine.offload.conftest import offloading

__all__ = ["load_model", "local_engine", "model_folder", "offloading", "prompt_ids"]
