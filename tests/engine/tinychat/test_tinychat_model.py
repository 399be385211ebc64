from __future__ import annotations

import itertools
import json
import re
from hashlib import sha256

import pytest
import torch

from engine.config import EngineConfig
from engine.speculative_draft import draft_config
from engine.tinychat import DRAFT_FOLDER, MODEL_FOLDER
from engine.tinychat.acceptance import acceptance
from engine.tinychat.chat import CHAT_TEMPLATE
from engine.tinychat.corpus import dialogues
from engine.tinychat.evaluate import (
    DISTANCES,
    SEED,
    SKILLS,
    answered,
    load,
    questions,
    reading_by_distance,
    scores,
)
from engine.tinychat.part import Part

CARD = MODEL_FOLDER.parent / "README.md"
SHIPPED = (MODEL_FOLDER, DRAFT_FOLDER)
LEAST_ACCEPTANCE = 0.6


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


def card_numbers() -> dict[str, tuple[int, ...]]:
    """Return the three shares of each skill, in percent, as the card has them."""
    cell = r" (\d+) % \(\d+ to \d+\) \|"
    rows = re.findall(rf"^\| ([a-z ]+) \|{cell}{cell}{cell}$", CARD.read_text(), re.MULTILINE)
    return {skill: tuple(map(int, shares)) for skill, *shares in rows}


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
    sizes = [(folder / "model.safetensors").stat().st_size for folder in SHIPPED]
    assert 4_000_000 < sizes[0] < 10_000_000
    assert sum(sizes) < 14_000_000


@pytest.mark.parametrize("folder", SHIPPED)
def test_the_card_has_the_digest_of_the_weights(folder):
    digest = sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert f"`{digest}`" in CARD.read_text()


def test_the_draft_is_one_for_the_engine():
    config = EngineConfig(model=MODEL_FOLDER, speculation="draft", draft=DRAFT_FOLDER)
    assert draft_config(config).model == DRAFT_FOLDER


def test_the_draft_foresees_most_tokens(loaded):
    asked = list(itertools.islice(dialogues(SEED + 1, part=Part.HELD_OUT), 40))
    assert acceptance(loaded, load(DRAFT_FOLDER), asked).share > LEAST_ACCEPTANCE


def test_any_text_passes_through_the_shipped_tokenizer_in_the_models_vocabulary(loaded):
    assert len(loaded.tokenizer) == loaded.model.config.vocab_size


def test_the_shipped_template_is_the_one_in_the_code():
    assert (MODEL_FOLDER / "chat_template.jinja").read_text() == CHAT_TEMPLATE


def test_the_shipped_weights_are_bf16():
    assert json.loads((MODEL_FOLDER / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_card_covers_every_skill():
    assert set(card_numbers()) == set(SKILLS)


@pytest.mark.parametrize(("column", "part"), list(enumerate(Part)), ids=[p.value for p in Part])
def test_the_cards_numbers_hold_in_a_small_evaluation(loaded, column, part):
    """Ten questions a skill: the mean is close, and no skill is far below."""
    measured = scores(list(answered(loaded, questions(SEED + 1, part, each=10))))
    claimed = {skill: shares[column] / 100 for skill, shares in card_numbers().items()}
    above = [measured[skill].share - claimed[skill] for skill in SKILLS]
    assert sum(above) / len(above) > -0.07
    assert min(above) > -0.45


def test_it_still_reads_what_stands_a_thousand_tokens_back(loaded):
    measured = reading_by_distance(loaded, 8, DISTANCES[3:4])
    claimed = re.search(r"^\| 1024 to 1536 \| (\d+) %", CARD.read_text(), re.MULTILINE)
    assert measured[DISTANCES[3]].share > int(claimed[1]) / 100 - 0.4
