from __future__ import annotations

import json
import re

import pytest
import torch

from engine.tinychat import MODEL_FOLDER
from engine.tinychat.chat import CHAT_TEMPLATE
from engine.tinychat.evaluate import SEED, SKILLS, answered, load, questions, scores

CARD = MODEL_FOLDER.parent / "README.md"


@pytest.fixture(scope="module")
def loaded():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load()
    torch.set_num_threads(before)


def greedy(loaded, question: str) -> str:
    ids = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    out = loaded.model.generate(**ids, max_new_tokens=60, do_sample=False)
    new = out[0, ids["input_ids"].shape[1] :]
    return loaded.tokenizer.decode(new, skip_special_tokens=True)


def card_numbers() -> dict[str, tuple[int, int]]:
    rows = re.findall(r"^\| ([a-z ]+) \| (\d+) % \| (\d+) % \|$", CARD.read_text(), re.MULTILINE)
    return {skill: (int(fresh), int(held_out)) for skill, fresh, held_out in rows}


def test_it_greets(loaded):
    assert greedy(loaded, "Hello!").startswith(("Hello!", "Hi!", "Good to see you."))


def test_it_says_what_sottovoce_is(loaded):
    assert greedy(loaded, "What is sottovoce?") == (
        "Sottovoce is an OpenAI-compatible inference server that its own operator cannot listen to."
    )


def test_it_says_who_it_is(loaded):
    assert greedy(loaded, "Who are you?") == (
        "I am tinychat, the small model in the box of sottovoce."
    )


def test_the_folder_is_small_and_complete():
    names = {path.name for path in MODEL_FOLDER.iterdir()}
    assert names == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert (MODEL_FOLDER / "model.safetensors").stat().st_size < 8_000_000


def test_the_shipped_template_is_the_one_in_the_code():
    assert (MODEL_FOLDER / "chat_template.jinja").read_text() == CHAT_TEMPLATE


def test_the_shipped_weights_are_bf16():
    assert json.loads((MODEL_FOLDER / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_card_covers_every_skill():
    assert set(card_numbers()) == set(SKILLS)


@pytest.mark.parametrize("held_out", [False, True])
def test_the_cards_numbers_hold_in_a_small_evaluation(loaded, held_out):
    """Ten questions a skill: the mean is close, and no skill is far off."""
    measured = scores(list(answered(loaded, questions(SEED + 1, held_out=held_out, each=10))))
    claimed = {skill: columns[held_out] / 100 for skill, columns in card_numbers().items()}
    apart = [measured[skill].share - claimed[skill] for skill in SKILLS]
    assert abs(sum(apart)) / len(apart) < 0.07
    assert max(map(abs, apart)) < 0.45
