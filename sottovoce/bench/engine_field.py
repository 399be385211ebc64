"""Who takes part: our engine and its peers over one model folder, each made when first needed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from engine.config import EngineConfig
from engine.errors import EngineError
from engine.loader import load
from sottovoce.bench import engine_transformers as stock
from sottovoce.bench.engine_llama import running_llama
from sottovoce.bench.engine_ours import Ours
from sottovoce.bench.engine_rounds import LeftOut
from sottovoce.bench.random_model import Shape

BF16, INT8 = "bf16", "int8"
GENERATE, GENERATE_BATCH = "transformers", "generate_batch"
LLAMA_BF16, LLAMA_Q8 = "llama.cpp bf16", "llama.cpp q8_0"
_KV_BYTES = 1 << 28


@dataclass(frozen=True)
class Setting:
    """What all contestants share."""

    folder: Path
    """The model, in Hugging Face's layout."""
    name: str
    """Of the model, for people."""
    shape: Shape
    threads: int
    llama: str | None
    """A Python interpreter that has llama-cpp-python and gguf."""


class Field:
    """The contestants by name. Whoever cannot be had is left out for the same reason every time."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._stack = ExitStack()
        self._made: dict[str, Any] = {}
        self._missing: dict[str, str] = {}
        torch.set_num_threads(setting.threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ours(self, name: str) -> Ours:
        """Return our engine with weights as they are (BF16) or rounded (INT8).

        Raises:
            LeftOut: this machine or model does not have it.
        """
        engine: Ours = self.get(name)
        return engine

    def get(self, name: str) -> Any:  # noqa: ANN401 - a Decoder, a Prefiller or both
        """Return a contestant.

        Raises:
            LeftOut: it cannot be had here.
        """
        if name in self._missing:
            raise LeftOut(self._missing[name])
        if name not in self._made:
            try:
                self._made[name] = self._makers()[name]()
            except LeftOut as reason:
                self._missing[name] = str(reason)
                raise
            gc.collect()
            gc.freeze()  # as the engine process does once it is loaded
        return self._made[name]

    def _makers(self) -> dict[str, Callable[[], Any]]:
        return {
            BF16: lambda: self._ours("as stored"),
            INT8: lambda: self._ours("int8"),
            "stock": lambda: stock.load(self.setting.folder),
            GENERATE: lambda: stock.Generate(self.get("stock")),
            GENERATE_BATCH: lambda: stock.GenerateBatch(self.get("stock")),
            LLAMA_BF16: lambda: self._llama("bf16"),
            LLAMA_Q8: lambda: self._llama("q8_0"),
        }

    def _ours(self, weights: str) -> Ours:
        config = EngineConfig(
            self.setting.folder,
            weights=weights,
            threads=self.setting.threads,
            kv_bytes=_KV_BYTES,
        )
        try:
            return Ours(config, load(config))
        except EngineError as error:
            raise LeftOut(str(error)) from error

    def _llama(self, precision: str) -> Any:  # noqa: ANN401
        setting = self.setting
        running = running_llama(setting.llama, setting.folder, precision, setting.threads)
        return self._stack.enter_context(running)
