"""The engine configuration of a worker; whoever publishes its policy must derive the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from engine.combinations import check_combination
from engine.config import EngineConfig
from engine.errors import EngineError
from engine.native import library
from engine.native.families import FAMILIES

Device = Annotated[str, typer.Option(help="What computes: cpu, cuda or cuda:N.")]
Weights = Annotated[
    str | None, typer.Option(help="int8: linear layers rounded to 8 bits at load, on a CPU.")
]
Speculation = Annotated[
    str, typer.Option(help="What proposes ids: none, ngram (the request itself) or draft.")
]
Verification = Annotated[
    str | None,
    typer.Option(
        help="What of the computation is checked before a token leaves: audit, full; "
        "or none, where the model or the device cannot be checked."
    ),
]
KvOffload = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="MIB",
        help="Host memory for the sealed K and V of requests that wait, on a CPU.",
    ),
]
KvTruncation = Annotated[
    bool, typer.Option("--kv-truncation", help="On a GPU: read K and V as precisely as used.")
]


@dataclass(frozen=True)
class EngineOptions:
    """What a person may choose about how a model is computed; `EngineConfig` says what it means."""

    device: str = "cpu"
    weights: str | None = None
    """None: as stored."""
    speculation: str = "none"
    draft: Path | None = None
    kv_truncation: bool = False
    verification: str | None = None
    """None: audit."""
    kv_offload: int = 0
    """MiB."""

    def words(self) -> Iterator[str]:
        """Yield the words of a command line that say the same."""
        yield from ("--device", self.device, "--speculation", self.speculation)
        if self.weights is not None:
            yield from ("--weights", self.weights)
        if self.draft is not None:
            yield from ("--draft", str(self.draft))
        if self.kv_truncation:
            yield "--kv-truncation"
        if self.verification is not None:
            yield from ("--verification", self.verification)
        if self.kv_offload:
            yield from ("--kv-offload", str(self.kv_offload))

    @property
    def only_device(self) -> bool:
        """Whether no more than the device is chosen: all that holds for another engine too."""
        return self == EngineOptions(self.device)


def verification_here(folder: Path, options: EngineOptions) -> str:
    """Return what `up` verifies if nobody says: audit where it can be had, else none.

    It can be had where the compiled kernels compute the model; its proxy then accepts no less.
    """
    try:
        library.load()
        fields = json.loads((folder / "config.json").read_bytes())
        families = set(fields.get("architectures") or ())
    except (EngineError, OSError, ValueError, AttributeError):
        return "none"
    return "audit" if options.device == "cpu" and families & set(FAMILIES) else "none"


def worker_engine(
    model: Path,
    adapter: Path | None = None,
    tensor_parallel: int = 1,
    options: EngineOptions | None = None,
) -> EngineConfig:
    """Return the engine's configuration for a model folder; its policy follows from it.

    Args:
        model: the folder.
        adapter: folder of a LoRA adapter that is merged into the model.
        tensor_parallel: processes among which every layer is divided.
        options: how it is computed; on the CPU, plainly, if None.

    Raises:
        ValueError: options that contradict each other.
    """
    options = options or EngineOptions()
    config = EngineConfig(
        model=model,
        adapter=adapter,
        tensor_parallel=tensor_parallel,
        device=options.device,
        weights=options.weights or "as stored",
        speculation=options.speculation,
        draft=options.draft,
        kv_truncation=options.kv_truncation,
        verification=options.verification or "audit",
        kv_offload_bytes=options.kv_offload << 20,
    )
    try:
        check_combination(config)
    except EngineError as error:
        raise ValueError(str(error)) from None
    return config
