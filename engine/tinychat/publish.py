"""Ship two runs: `python -m engine.tinychat.publish --run DIR --draft-run DIR`.

Exports both to the shipped folders, measures them, and writes the numbers into the model card and
the loss curves next to it.
"""

from __future__ import annotations

import argparse
import itertools
from hashlib import sha256
from pathlib import Path

import torch

from engine.tinychat import DRAFT_FOLDER, MODEL_FOLDER
from engine.tinychat.acceptance import acceptance
from engine.tinychat.corpus import dialogues
from engine.tinychat.evaluate import SEED, Score, load, markdown, measure, shown
from engine.tinychat.export import export
from engine.tinychat.part import Part
from engine.tinychat.plot import losses, picture

CARD = MODEL_FOLDER.parent / "README.md"
PLOT = MODEL_FOLDER.parent / "loss.svg"
BEGINS, ENDS = "<!-- measured: written by publish -->", "<!-- end of measured -->"
_ASKED_FOR_ACCEPTANCE = 500


def draft_acceptance() -> Score:
    """Return the shipped draft's greedy acceptance over dialogues in the mixture of training."""
    asked = list(itertools.islice(dialogues(SEED, part=Part.HELD_OUT), _ASKED_FOR_ACCEPTANCE))
    return acceptance(load(), load(DRAFT_FOLDER), asked)


def _files() -> str:
    lines = ["| file | bytes | SHA-256 |", "|---|---|---|"]
    for path in (folder / "model.safetensors" for folder in (MODEL_FOLDER, DRAFT_FOLDER)):
        data = path.read_bytes()
        name = f"{path.parent.name}/{path.name}"
        lines.append(f"| `{name}` | {len(data):,} | `{sha256(data).hexdigest()}` |")
    return "\n".join(lines)


def rewritten(card: str, measured: str) -> str:
    """Return the card with `measured` between its marks."""
    before, _, rest = card.partition(BEGINS)
    _, _, after = rest.partition(ENDS)
    return f"{before}{BEGINS}\n\n{measured}\n\n{ENDS}{after}"


def publish(run: Path, draft: Path, each: int) -> None:
    """Export, measure, and write card and plot."""
    export(run, MODEL_FOLDER)
    export(draft, DRAFT_FOLDER)
    PLOT.write_text(picture({"model": losses(run), "draft": losses(draft)}))
    foreseen = f"Greedy draft acceptance: {shown(draft_acceptance())} of the tokens."
    measured = "\n\n".join([markdown(measure(load(), each)), foreseen, _files()])
    CARD.write_text(rewritten(CARD.read_text(), measured))


def main() -> None:
    """Publish from the command line."""
    parser = argparse.ArgumentParser(description="Export, measure and describe two trained runs.")
    parser.add_argument("--run", type=Path, required=True, help="folder of the model's run")
    parser.add_argument("--draft-run", type=Path, required=True, help="folder of the draft's run")
    parser.add_argument("--per-skill", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    publish(given.run, given.draft_run, given.per_skill)


if __name__ == "__main__":
    main()
