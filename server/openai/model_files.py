"""The small JSON files of a Hugging Face model folder that the surface of a model depends on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class UnusableModel(Exception):
    """The model's folder lacks what the endpoints need. Raised at start, never by a request."""


@dataclass(frozen=True)
class ModelFiles:
    """The folder's configuration files, each an empty object if absent."""

    folder: Path
    config: dict[str, Any]
    generation: dict[str, Any]
    tokenizer: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> ModelFiles:
        """Read the configuration files of a model folder.

        Raises:
            UnusableModel: one of them is not a JSON object.
        """
        return cls(
            folder,
            _object(folder / "config.json"),
            _object(folder / "generation_config.json"),
            _object(folder / "tokenizer_config.json"),
        )

    def special_tokens(self) -> dict[str, str]:
        """The texts of `bos_token`, `eos_token` and their like, as templates name them."""
        named = {name: self.tokenizer.get(name) for name in self.tokenizer}
        texts = {name: _token_text(value) for name, value in named.items()}
        return {name: text for name, text in texts.items() if name.endswith("_token") and text}


def _object(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnusableModel(f"{path.name} is not JSON") from error
    if not isinstance(value, dict):
        raise UnusableModel(f"{path.name} is not a JSON object")
    return value


def _token_text(value: Any) -> str | None:  # noqa: ANN401 - a string, or an object around it
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
