"""Measure a model folder: `python -m engine.tinychat.evaluate [--model DIR] [--per-skill N]`.

Answers are greedy and must equal a right answer letter for letter. Three columns, one for each
`Part`: fresh wordings of the kind met in training, wordings and number pairs kept back from it, and
sentences and topics unlike any in it. Then refusals of what it knows, questions with a letter
wrong, and reading by distance.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.tinychat import MODEL_FOLDER
from engine.tinychat.chat import CALL, CALL_END, prompt
from engine.tinychat.corpus import dialogues
from engine.tinychat.dialogue import Dialogue
from engine.tinychat.grammar import typo
from engine.tinychat.model import CONTEXT
from engine.tinychat.part import Part
from engine.tinychat.skills.declining import every_decline
from engine.tinychat.talks import distant

SEED = 20_000  # of no training run
LONGEST_ANSWER = 80
_BATCH = 64
_Z = 1.96  # 95 %
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
ANSWERABLE = ("facts", "small talk", "capitals", "short facts", "arithmetic", "copying", "reading")
MISSPELT = ("facts", "small talk", "capitals", "short facts", "declining")
Span = tuple[int, int]
_FARTHEST = 5600  # characters between a passage and the question about it
DISTANCES: tuple[Span, ...] = (
    (0, 128),
    (128, 512),
    (512, 1024),
    (1024, 1536),
    (1536, 2048),
)  # tokens


@dataclass(frozen=True)
class Score:
    """How many of the asked questions were answered right."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        """The part that was right, 0 to 1."""
        return self.right / self.asked

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share."""
        n, p, z2 = self.asked, self.share, _Z**2
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        return max(0.0, middle - half), min(1.0, middle + half)


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
        return self.dialogue.skill == "declining" and self.declined

    @property
    def declined(self) -> bool:
        """Whether the model said that it does not know."""
        return self.said in every_decline()


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


def questions(seed: int, part: Part, each: int) -> list[Dialogue]:
    """Return `each` dialogues of every skill, no prompt twice."""
    wanted = dict.fromkeys(SKILLS, each)
    chosen: dict[str, Dialogue] = {}
    for one in dialogues(seed, part=part):
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


def score(results: Sequence[Answered]) -> Score:
    """Return how many of `results` are right."""
    return Score(sum(one.right for one in results), len(results))


def scores(results: Sequence[Answered]) -> dict[str, Score]:
    """Return the score of each skill that was asked for."""
    found = {}
    for skill in SKILLS:
        some = [one for one in results if one.dialogue.skill == skill]
        if some:
            found[skill] = score(some)
    return found


def false_refusals(results: Sequence[Answered]) -> Score:
    """Return how often a question that has an answer was declined."""
    some = [one for one in results if one.dialogue.skill in ANSWERABLE]
    return Score(sum(one.declined and not one.right for one in some), len(some))


def distance(one: Dialogue, loaded: Loaded) -> int:
    """Return the tokens from the sentence that holds the answer to the end of the prompt."""
    text = prompt(one)
    tail = text[text.index(one.evidence) :]
    return len(loaded.tokenizer(tail, add_special_tokens=False).input_ids)


def distant_questions(
    loaded: Loaded, each: int, spans: Sequence[Span] = DISTANCES
) -> dict[Span, list[Dialogue]]:
    """Return `each` held-out questions for every one of `spans`, all within the context."""
    rng = random.Random(SEED)
    found: dict[Span, list[Dialogue]] = {span: [] for span in spans}
    while any(len(some) < each for some in found.values()):
        one = distant(rng, Part.HELD_OUT, rng.randint(0, _FARTHEST))
        tokens = distance(one, loaded)
        span = next((span for span in spans if span[0] <= tokens < span[1]), None)
        if span and len(found[span]) < each and _fits(one, loaded):
            found[span].append(one)
    return found


def _fits(one: Dialogue, loaded: Loaded) -> bool:
    return len(loaded.tokenizer(prompt(one)).input_ids) <= CONTEXT - LONGEST_ANSWER


def reading_by_distance(
    loaded: Loaded, each: int, spans: Sequence[Span] = DISTANCES
) -> dict[Span, Score]:
    """Return how well the model reads what stands so many tokens back."""
    asked = distant_questions(loaded, each, spans)
    return {span: score(list(answered(loaded, some))) for span, some in asked.items()}


def misspelt(one: Dialogue, rng: random.Random) -> Dialogue:
    """Return a dialogue in whose last question one letter is missing, doubled or swapped."""
    *before, asked, answer = one.messages
    wrong = replace(asked, content=typo(asked.content, rng))
    return replace(one, messages=(*before, wrong, answer))


def misspelt_questions(each: int) -> list[Dialogue]:
    """Return `each` held-out questions of every skill of `MISSPELT`, each with a wrong letter."""
    rng = random.Random(SEED)
    asked = questions(SEED, Part.HELD_OUT, each)
    return [misspelt(one, rng) for one in asked if one.skill in MISSPELT]


@dataclass(frozen=True)
class Report:
    """What was measured; the keys of `columns` and `refusals` are the parts' values."""

    columns: dict[str, dict[str, Score]]
    refusals: dict[str, Score]
    misspelt: dict[str, Score]
    distances: dict[Span, Score]
    wrong: list[Answered]


def measure(loaded: Loaded, each: int) -> Report:
    """Ask `each` questions of every skill, part and distance."""
    results = {part.value: list(answered(loaded, questions(SEED, part, each))) for part in Part}
    return Report(
        {name: scores(some) for name, some in results.items()},
        {name: false_refusals(some) for name, some in results.items()},
        scores(list(answered(loaded, misspelt_questions(each)))),
        reading_by_distance(loaded, each),
        [one for some in results.values() for one in some if not one.right],
    )


def shown(one: Score) -> str:
    """Return a score as the card shows it, with its interval."""
    low, high = one.interval
    return f"{100 * one.share:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def markdown(report: Report) -> str:
    """Return the report as the tables of the model card."""
    lines = [f"| skill | {' | '.join(report.columns)} |", "|---" * (len(report.columns) + 1) + "|"]
    for skill in SKILLS:
        cells = (shown(column[skill]) for column in report.columns.values())
        lines.append(f"| {skill} | {' | '.join(cells)} |")
    refused = (shown(one) for one in report.refusals.values())
    lines.append(f"| *declined without need* | {' | '.join(refused)} |")
    lines += ["", "| held out, one letter wrong | |", "|---|---|"]
    lines += [f"| {skill} | {shown(one)} |" for skill, one in report.misspelt.items()]
    lines += ["", "| tokens back | reading |", "|---|---|"]
    lines += [
        f"| {low} to {high} | {shown(one)} |" for (low, high), one in report.distances.items()
    ]
    return "\n".join(lines)


def _line(one: Answered) -> str:
    return json.dumps(
        {
            "skill": one.dialogue.skill,
            "asked": one.dialogue.messages[-2].content,
            "said": one.said,
            "right": one.dialogue.accepted[0],
        }
    )


def main() -> None:
    """Evaluate from the command line."""
    parser = argparse.ArgumentParser(description="Measure a model folder, skill by skill.")
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER)
    parser.add_argument("--per-skill", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wrong", type=Path, help="write wrong answers here, a JSON object a line")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    report = measure(load(given.model), given.per_skill)
    if given.wrong:
        given.wrong.write_text("".join(_line(one) + "\n" for one in report.wrong))
    Console().print(markdown(report), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
