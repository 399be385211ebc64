"""Train the model in the box, or its draft: `python -m engine.tinychat.train --out DIR`.

The run is a function of its settings: each step's batch is made from seed and step, and the
learning rate follows the steps, so a run that was cut and resumed gives the losses of an unbroken
one on the same machine. Run it again with the same arguments to resume; checkpoints replace each
other atomically in DIR, which should be outside the repository. DIR/loss.jsonl holds one line a
step. A draft learns the main model's distributions. Matrices learn by Muon, embeddings and gains by
AdamW.
"""

from __future__ import annotations

import argparse
import json
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
from engine.tinychat.errors import NothingTrained, WrongCheckpoint
from engine.tinychat.model import DRAFT, MAIN, Size
from engine.tinychat.packing import IGNORED, Batch, Packer, Shape

Clock = Callable[[], float]
_SAVE_EVERY_S = 120.0
_SHORT = Shape(rows=16, length=256)
_LONG = Shape(rows=2, length=2048, long=True)
STEPS, DRAFT_STEPS = 7000, 2000


@dataclass(frozen=True)
class Settings:
    """What decides a run."""

    seed: int
    size: Size = MAIN
    steps: int = STEPS
    peak_rate: float = 5e-3
    warmup: float = 0.02  # share of the steps
    falling: float = 0.5  # share of the steps
    weight_decay: float = 0.1
    short: Shape = _SHORT
    long: Shape = _LONG
    long_every: int = 7  # each seventh step trains late positions


@dataclass(frozen=True)
class Progressed:
    """How far a run is."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


def rate(settings: Settings, step: int) -> float:
    """Return the learning rate of `step`: a linear rise, a plateau, a linear fall to nothing."""
    share = step / settings.steps
    rising = (share + 0.001) / (settings.warmup + 0.001)
    return settings.peak_rate * min(1.0, rising, (1 - share) / settings.falling)


class Run:
    """One training run in one folder: `advance` takes a step, `save` makes it durable."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        *,
        compiled: bool,
        device: str = "cpu",
        teacher: Path | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """Begin, or resume from the checkpoint in `folder`; a draft learns from `teacher`'s run.

        Raises:
            WrongCheckpoint: the folder belongs to a run with other settings.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.settings = folder, settings
        self._clock = clock
        self.tokenizer = _tokenizer(folder, settings.seed, teacher)
        self._device = torch.device(device)
        self.model = shape.create(self.tokenizer, settings.size, settings.seed).to(self._device)
        self._body: Any = self.model.model
        if compiled:
            self._body = torch.compile(self._body, dynamic=False)
        self._teacher = _taught(teacher, self._device) if teacher else None
        self._optimizers = _optimizers(self.model, settings)
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
        return self.progressed.step / self.settings.steps

    def _resume(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True, map_location=self._device)
        if state["settings"] != _plain(self.settings):
            raise WrongCheckpoint(f"{self._checkpoint} was begun with other settings")
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.progressed = Progressed(**state["progressed"])
        lines = (self.folder / "loss.jsonl").read_text().splitlines()[: self.progressed.step]
        _replace_file(self.folder / "loss.jsonl", "".join(f"{line}\n" for line in lines).encode())

    def advance(self) -> float:
        """Take one optimiser step and return its loss."""
        begun = self._clock()
        step = self.progressed.step
        long = step % self.settings.long_every == self.settings.long_every - 1
        batch = self._packer.batch(step, self.settings.long if long else self.settings.short)
        now = rate(self.settings, step)
        value = self._learn(batch.to(self._device), now)
        done = self.progressed
        self.progressed = replace(
            done,
            step=step + 1,
            tokens=done.tokens + batch.ids.numel(),
            seconds=done.seconds + self._clock() - begun,
        )
        self._note(value, now, int((batch.targets != IGNORED).sum()))
        return value

    def _learn(self, batch: Batch, now: float) -> float:
        if self._teacher is None:
            loss = shape.loss(self.model, self._body, batch)
        else:
            loss = shape.distance(self.model, self._body, self._teacher, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = now
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.item()

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
                "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
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


def _tokenizer(folder: Path, seed: int, teacher: Path | None) -> Tokenizer:
    """Return the tokenizer of the run, made when it begins; a draft shares its teacher's."""
    path = folder / "tokenizer.json"
    if not path.exists():
        text = (teacher / path.name).read_text() if teacher else bpe.train(seed).to_str(pretty=True)
        _replace_file(path, text.encode())
    return bpe.load(path)


def trained(folder: Path) -> Any:  # noqa: ANN401 - transformers is untyped here
    """Return the model of the run in `folder` as its last checkpoint holds it, in fp32.

    Raises:
        NothingTrained: the folder holds no checkpoint.
    """
    path = folder / "checkpoint.pt"
    if not path.exists():
        raise NothingTrained(f"no checkpoint in {folder}")
    state = torch.load(path, weights_only=True, map_location="cpu")
    size = Size(**state["settings"]["size"])
    model = shape.create(bpe.load(folder / "tokenizer.json"), size, seed=0)
    model.load_state_dict(state["model"])
    return model


def _taught(folder: Path, device: torch.device) -> Any:  # noqa: ANN401
    return trained(folder).to(device, torch.bfloat16).eval()


def _optimizers(model: Any, settings: Settings) -> list[torch.optim.Optimizer]:  # noqa: ANN401
    decay = settings.weight_decay
    body = list(model.model.layers.parameters())
    matrices = [p for p in body if p.dim() == 2]
    gains = [p for p in (*body, *model.model.norm.parameters()) if p.dim() < 2]
    groups = [
        {"params": [model.get_input_embeddings().weight], "weight_decay": decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(matrices, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True),
    ]


def train(run: Run, *, clock: Clock = time.monotonic) -> None:
    """Advance `run` to its end, saving every two minutes, with a progress bar."""
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
    parser.add_argument("--draft-of", type=Path, help="train the draft of the run in this folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=0, help="another number of steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--compile", action="store_true", help="needs a C++ compiler; faster")
    return parser.parse_args()


def main() -> None:
    """Train from the command line."""
    given = _arguments()
    torch.set_num_threads(given.threads)
    steps = given.steps or (DRAFT_STEPS if given.draft_of else STEPS)
    size = DRAFT if given.draft_of else MAIN
    settings = Settings(seed=given.seed, size=size, steps=steps)
    options = {"compiled": given.compile, "device": given.device, "teacher": given.draft_of}
    train(Run(given.out, settings, **options))


if __name__ == "__main__":
    main()
