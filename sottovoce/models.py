"""Which model `up` serves: the one in the box, a folder, or a name on the Hugging Face hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

SHIPPED = "tinychat"

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

_NEEDED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
"""Weights as safetensors, configuration and tokenizer; no pickles and no code."""


class ModelNotFound(Exception):
    """Neither a folder nor a name on the hub."""


@dataclass(frozen=True)
class ChosenModel:
    """A model's folder and the name it is served under."""

    folder: Path
    name: str
    adapter: Path | None = None
    """Folder of the LoRA adapter that makes it another model."""


def choose_model(wanted: str | None, adapter: str | None = None) -> ChosenModel:
    """Find the model; a hub name is downloaded (the cache of `huggingface_hub` keeps it).

    With an adapter (a folder or a hub name, in PEFT's layout) the model is another one, and called
    `base:adapter`.

    Raises:
        ModelNotFound: nothing of this name, or a folder that lacks what a served model needs.
    """
    base = _base(wanted)
    if not (base.folder / "tokenizer.json").is_file():
        raise ModelNotFound(f"{base.name} has no tokenizer.json")
    if adapter is None:
        return base
    folder = _adapter(adapter)
    return ChosenModel(base.folder, f"{base.name}:{adapter.rstrip('/').rsplit('/', 1)[-1]}", folder)


def _base(wanted: str | None) -> ChosenModel:
    if wanted is None:
        return ChosenModel(Path(str(files("engine.tinychat") / "model")), SHIPPED)
    folder = Path(wanted)
    if (folder / "config.json").is_file():
        return ChosenModel(folder.resolve(), folder.resolve().name)
    if folder.exists():
        raise ModelNotFound(f"{wanted} is not a model's folder: it has no config.json")
    if not _HUB_NAME.fullmatch(wanted):
        raise ModelNotFound(f"{wanted} is neither a folder nor a name on the hub")
    return ChosenModel(_download(wanted), wanted.rsplit("/", 1)[1])


def _adapter(wanted: str) -> Path:
    folder = Path(wanted)
    if (folder / "adapter_config.json").is_file():
        return folder.resolve()
    if folder.exists() or not _HUB_NAME.fullmatch(wanted):
        raise ModelNotFound(f"{wanted} is not an adapter's folder: it has no adapter_config.json")
    return _download(wanted)


def _download(name: str) -> Path:
    # Imported here: it takes a while, and a model in a folder does without.
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(snapshot_download(name, allow_patterns=_NEEDED))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFound(f"{name} cannot be had from the hub: {type(error).__name__}") from None
