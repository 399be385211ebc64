"""Train the model in the box: `python -m engine.tinychat.train --out DIR --seed 1 --minutes 45`.

The run is a function of its settings: each step's batch is made from seed and step, and with
`--tokens` the learning rate follows the tokens seen, so a run that was cut and resumed gives the
losses of an unbroken one. With `--minutes` the rate follows the clock instead. Run it again with
the same arguments to resume; checkpoints replace each other atomically in DIR, which should be
outside the repository. DIR/loss.jsonl holds one line a step.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer

from engine.tinychat import model as shape
from engine.tinychat import tokenizer as bpe
from engine.tinychat.errors import WrongCheckpoint
from engine.tinychat.packing import IGNORED, Packer, Shape

Clock = Callable[[], float]
_SAVE_EVERY_S = 60.0
_SHORT = Shape(rows=16, length=256)
_LONG = Shape(rows=4, length=1024, long=True)


@dataclass(frozen=True)
class Settings:
    """What decides a run. Exactly one of `tokens` and `minutes` is not zero."""

    seed: int
    tokens: int = 0
    minutes: float = 0.0
    peak_rate: float = 2e-3
    warmup: float = 0.02  # share of the run
    weight_decay: float = 0.1
    short: Shape = _SHORT
    long: Shape = _LONG
    long_every: int = 8  # each eighth step trains late positions


@dataclass(frozen=True)
class Progressed:
    """How far a run is."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


def share_done(settings: Settings, progressed: Progressed) -> float:
    """Return the part of the run that lies behind, 0 to 1."""
    if settings.tokens:
        return min(1.0, progressed.tokens / settings.tokens)
    return min(1.0, progressed.seconds / (60 * settings.minutes))


def rate(settings: Settings, share: float) -> float:
    """Return the learning rate: a linear rise, then half a cosine down to nothing."""
    if share < settings.warmup:
        return settings.peak_rate * (share + 0.001) / (settings.warmup + 0.001)
    angle = math.pi * (share - settings.warmup) / (1 - settings.warmup)
    return settings.peak_rate * (1 + math.cos(angle)) / 2


class Run:
    """One training run in one folder: `advance` takes a step, `save` makes it durable."""

    def __init__(
        self, folder: Path, settings: Settings, *, clock: Clock = time.monotonic, compiled: bool
    ) -> None:
        """Begin, or resume from the checkpoint in `folder`.

        Raises:
            WrongCheckpoint: the folder belongs to a run with other settings.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.settings = folder, settings
        self._clock = clock
        self.tokenizer = _tokenizer(folder, settings.seed)
        self.model = shape.create(self.tokenizer, settings.seed)
        self._body: Any = self.model.model
        if compiled:
            self._body = torch.compile(self._body, dynamic=False)
        self._optimizer = _optimizer(self.model, settings)
        self._packer = Packer(self.tokenizer, settings.seed)
        self.progressed = Progressed()
        self._log: list[str] = []
        if self._checkpoint.exists():
            self._resume()

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def share(self) -> float:
        """The part of the run that is done, 0 to 1."""
        return share_done(self.settings, self.progressed)

    def _resume(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True)
        if state["settings"] != _plain(self.settings):
            raise WrongCheckpoint(f"{self._checkpoint} was begun with other settings")
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.progressed = Progressed(**state["progressed"])
        lines = (self.folder / "loss.jsonl").read_text().splitlines()[: self.progressed.step]
        _replace_file(self.folder / "loss.jsonl", "".join(f"{line}\n" for line in lines).encode())

    def advance(self) -> float:
        """Take one optimiser step and return its loss."""
        begun = self._clock()
        step = self.progressed.step
        long = step % self.settings.long_every == self.settings.long_every - 1
        batch = self._packer.batch(step, self.settings.long if long else self.settings.short)
        now = rate(self.settings, self.share)
        for group in self._optimizer.param_groups:
            group["lr"] = now
        self._optimizer.zero_grad(set_to_none=True)
        loss = shape.loss(self.model, self._body, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        value = loss.item()
        done = self.progressed
        self.progressed = replace(
            done,
            step=step + 1,
            tokens=done.tokens + batch.ids.numel(),
            seconds=done.seconds + self._clock() - begun,
        )
        self._note(value, now, int((batch.targets != IGNORED).sum()))
        return value

    def _note(self, loss: float, learning_rate: float, trained: int) -> None:
        line = {
            **asdict(self.progressed),
            "loss": round(loss, 5),
            "rate": learning_rate,
            "trained": trained,
        }
        self._log.append(json.dumps(line) + "\n")

    def save(self) -> None:
        """Write log and checkpoint; a crash leaves the old or the new one, never half of one."""
        with (self.folder / "loss.jsonl").open("a") as log:
            log.writelines(self._log)
        self._log = []
        unfinished = self._checkpoint.with_suffix(".tmp")
        torch.save(
            {
                "settings": _plain(self.settings),
                "progressed": asdict(self.progressed),
                "model": self.model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
            },
            unfinished,
        )
        unfinished.replace(self._checkpoint)


def _plain(settings: Settings) -> dict[str, Any]:
    return asdict(settings)


def _replace_file(path: Path, data: bytes) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def _tokenizer(folder: Path, seed: int) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.exists():
        _replace_file(path, bpe.train(seed).to_str(pretty=True).encode())
    return bpe.load(path)


def _optimizer(model: Any, settings: Settings) -> torch.optim.AdamW:  # noqa: ANN401
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.peak_rate, betas=(0.9, 0.98), fused=True)


def train(run: Run, *, clock: Clock = time.monotonic) -> None:
    """Advance `run` to its end, saving about once a minute, with a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("training", total=1.0)
        saved, average = clock(), 0.0
        while run.share < 1.0:
            loss = run.advance()
            average = loss if not average else 0.98 * average + 0.02 * loss
            label = f"step {run.progressed.step}, loss {average:.3f}"
            progress.update(task, completed=run.share, description=label)
            if clock() - saved > _SAVE_EVERY_S:
                run.save()
                saved = clock()
        run.save()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the model in the box.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--seed", type=int, default=1)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--tokens", type=int, default=0, help="train for so many tokens")
    length.add_argument("--minutes", type=float, default=0.0, help="train for so long")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--compile", action="store_true", help="needs a C++ compiler; a third faster"
    )
    return parser.parse_args()


def main() -> None:
    """Train from the command line."""
    given = _arguments()
    torch.set_num_threads(given.threads)
    settings = Settings(seed=given.seed, tokens=given.tokens, minutes=given.minutes)
    train(Run(given.out, settings, compiled=given.compile))


if __name__ == "__main__":
    main()
