"""Measure a model folder: `python -m engine.tinychat.evaluate [--model DIR] [--per-skill N]`.

Answers are greedy and must equal a right answer letter for letter. Two columns: wordings of the
kind met in training (fresh ones, of another seed), and held-out wordings, sums, and topics.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.tinychat import MODEL_FOLDER
from engine.tinychat.chat import CALL, CALL_END, prompt
from engine.tinychat.corpus import dialogues
from engine.tinychat.dialogue import Dialogue
from engine.tinychat.skills.declining import every_decline

SEED = 20_000  # of no training run
LONGEST_ANSWER = 64
_BATCH = 64
SKILLS = (
    "facts",
    "small talk",
    "capitals",
    "short facts",
    "arithmetic",
    "counting",
    "copying",
    "reversing",
    "spelling",
    "reading",
    "json",
    "declining",
    "several turns",
    "system prompt",
    "earlier turns",
    "tools",
)


@dataclass(frozen=True)
class Score:
    """How many of the asked questions were answered right."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        """The part that was right, 0 to 1."""
        return self.right / self.asked


@dataclass(frozen=True)
class Answered:
    """A dialogue and what the model said at its end."""

    dialogue: Dialogue
    said: str

    @property
    def right(self) -> bool:
        """Whether the words are those of a right answer."""
        if self.said in self.dialogue.accepted:
            return True
        return self.dialogue.skill == "declining" and self.said in every_decline()


@dataclass(frozen=True)
class Loaded:
    """A model folder as stock transformers loads it."""

    model: Any
    tokenizer: Any


def load(folder: Path = MODEL_FOLDER) -> Loaded:
    """Load a model folder without any network."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, local_files_only=True
    )
    return Loaded(model.eval(), tokenizer)


def answer(loaded: Loaded, prompts: Sequence[str]) -> list[str]:
    """Return the greedy continuation of each rendered prompt."""
    tokens = loaded.tokenizer(
        list(prompts), return_tensors="pt", padding=True, add_special_tokens=False
    )
    with torch.inference_mode():
        ids = loaded.model.generate(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            max_new_tokens=LONGEST_ANSWER,
            do_sample=False,
        )
    new = ids[:, tokens.input_ids.shape[1] :]
    said: list[str] = loaded.tokenizer.batch_decode(new, skip_special_tokens=True)
    return [text.replace(CALL, "").replace(CALL_END, "") for text in said]


def questions(seed: int, *, held_out: bool, each: int) -> list[Dialogue]:
    """Return `each` dialogues of every skill, no prompt twice."""
    wanted = dict.fromkeys(SKILLS, each)
    chosen: dict[str, Dialogue] = {}
    for one in dialogues(seed, held_out=held_out):
        text = prompt(one)
        if wanted[one.skill] and text not in chosen:
            chosen[text] = one
            wanted[one.skill] -= 1
        if not any(wanted.values()):
            break
    return list(chosen.values())


def answered(loaded: Loaded, asked: Sequence[Dialogue]) -> Iterator[Answered]:
    """Let the model answer; prompts of like length share a batch."""
    ordered = sorted(asked, key=lambda one: len(prompt(one)))
    for start in range(0, len(ordered), _BATCH):
        some = ordered[start : start + _BATCH]
        for one, said in zip(some, answer(loaded, [prompt(d) for d in some]), strict=True):
            yield Answered(one, said)


def scores(results: Sequence[Answered]) -> dict[str, Score]:
    """Return the score of each skill that was asked for."""
    found = {}
    for skill in SKILLS:
        right = [one.right for one in results if one.dialogue.skill == skill]
        if right:
            found[skill] = Score(sum(right), len(right))
    return found


def _table(columns: dict[str, dict[str, Score]]) -> Table:
    table = Table("skill", *columns)
    for skill in SKILLS:
        table.add_row(skill, *(f"{100 * column[skill].share:.0f} %" for column in columns.values()))
    return table


def main() -> None:
    """Evaluate from the command line."""
    parser = argparse.ArgumentParser(description="Measure a model folder, skill by skill.")
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER)
    parser.add_argument("--per-skill", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wrong", type=Path, help="write wrong answers here, a JSON object a line")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    loaded = load(given.model)
    columns, wrong = {}, []
    for label, held_out in (("fresh", False), ("held out", True)):
        asked = questions(SEED, held_out=held_out, each=given.per_skill)
        results = list(answered(loaded, asked))
        columns[label] = scores(results)
        wrong += [one for one in results if not one.right]
    if given.wrong:
        lines = (
            json.dumps(
                {
                    "skill": one.dialogue.skill,
                    "asked": one.dialogue.messages[-2].content,
                    "said": one.said,
                    "right": one.dialogue.accepted[0],
                }
            )
            for one in wrong
        )
        given.wrong.write_text("\n".join(lines) + "\n")
    Console().print(_table(columns))


if __name__ == "__main__":
    main()
