from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys

import pytest

from engine.tinychat.corpus import dialogue, dialogues
from engine.tinychat.evaluate import misspelt
from engine.tinychat.facts import FACTS
from engine.tinychat.grammar import expand, expand_all, normalized, spoken
from engine.tinychat.part import Part
from engine.tinychat.skills.arithmetic import added, arithmetic, held_out_operands, subtracted
from engine.tinychat.skills.declining import every_decline
from engine.tinychat.skills.exchange import pick
from engine.tinychat.skills.reading import as_json
from engine.tinychat.skills.talk import project_fact

SAMPLE = 6000


def training_sample(seed: int = 1, count: int = SAMPLE):
    return list(itertools.islice(dialogues(seed), count))


def wordings(part: Part) -> set[str]:
    return {normalized(text) for fact in FACTS for text in fact.wordings(part)}


def test_equal_seeds_give_equal_dialogues():
    assert training_sample(3, 300) == training_sample(3, 300)


def test_different_seeds_give_different_dialogues():
    assert training_sample(3, 30) != training_sample(4, 30)


def test_there_are_at_least_sixty_facts_about_the_project_itself():
    about_itself = {"who-are-you", "human", "robot", "feelings", "joke", "clock"}
    assert len({fact.name for fact in FACTS} - about_itself) >= 60
    assert len({fact.name for fact in FACTS}) == len(FACTS)


def test_every_fact_has_twenty_wordings_and_a_tenth_kept_back():
    for fact in FACTS:
        trained, kept = (len(fact.wordings(part)) for part in (Part.TRAINING, Part.HELD_OUT))
        assert trained >= 20, fact.name
        assert kept >= round((trained + kept) / 12), fact.name
        assert fact.wordings(Part.UNFAMILIAR), fact.name


def test_no_bracket_is_left_in_a_wording():
    for fact in FACTS:
        for part in Part:
            assert not any(mark in text for text in fact.wordings(part) for mark in "[]|")


def test_every_facts_answer_appears_in_training():
    answers = {m.content for d in training_sample() for m in d.messages if m.role == "assistant"}
    assert {fact.answer for fact in FACTS} <= answers


def test_what_is_kept_back_is_asked_as_it_is_worded():
    rng = random.Random(8)
    known = wordings(Part.HELD_OUT)
    asked = [normalized(project_fact(rng, Part.HELD_OUT).question) for _ in range(500)]
    assert all(any(text in question for text in known) for question in asked)


def test_a_misspelt_question_differs_by_a_letter_and_keeps_its_answer():
    rng = random.Random(8)
    for one in itertools.islice(dialogues(2, part=Part.HELD_OUT), 100):
        if one.skill == "facts":
            wrong = misspelt(one, rng)
            lengths = len(wrong.messages[-2].content) - len(one.messages[-2].content)
            assert abs(lengths) <= 1
            assert wrong.messages[-1] == one.messages[-1]


def test_no_wording_belongs_to_two_facts():
    owner: dict[str, str] = {}
    for fact in FACTS:
        for text in (text for part in Part for text in fact.wordings(part)):
            assert owner.setdefault(normalized(text), fact.name) == fact.name, text


@pytest.mark.parametrize("part", [Part.HELD_OUT, Part.UNFAMILIAR])
def test_kept_back_wordings_are_no_training_wordings(part):
    assert not wordings(part) & wordings(Part.TRAINING)


@pytest.mark.parametrize("part", [Part.HELD_OUT, Part.UNFAMILIAR])
def test_kept_back_wordings_never_occur_in_training(part):
    rng = random.Random(6)
    asked = {normalized(project_fact(rng, Part.TRAINING).question) for _ in range(40_000)}
    assert not asked & wordings(part)


def test_a_tenth_of_the_wordings_of_a_skill_is_kept_back():
    patterns = ("[a|b|c|d|e] {x}", "[f|g|h|i|j] {x}", "{x}, unlike the others")
    rng = random.Random(7)
    drawn = {pick(rng, patterns, Part.TRAINING) for _ in range(500)}
    kept = {pick(rng, patterns, Part.HELD_OUT) for _ in range(50)}
    assert (len(drawn), len(kept)) == (9, 1)
    assert not drawn & kept
    assert pick(rng, patterns, Part.UNFAMILIAR) == patterns[-1]


def test_held_out_sums_never_occur_in_training():
    rng = random.Random(5)
    for _ in range(2000):
        one = arithmetic(rng, Part.TRAINING)
        tail = one.answer.rpartition("So ")[2].split()
        if tail[1] in "+-":
            assert not held_out_operands(tail[1], int(tail[0]), int(tail[2]))


def test_every_sum_is_right():
    for a, b in itertools.product(range(100), repeat=2):
        assert added(a, b).endswith(f"{a} + {b} = {a + b}.")
        assert subtracted(a, b).endswith(f"{a} - {b} = {a - b}.")


def test_every_scratch_step_is_right():
    for a, b in itertools.product(range(100), repeat=2):
        for text in (added(a, b), subtracted(a, b)):
            for step in text.replace(". So ", ", ").rstrip(".").split(", "):
                left, equals, right = step.rpartition(". ")[2].replace(" ", "").rpartition("=")
                if equals:
                    assert eval(left.lstrip("0") or "0") == int(right)


def test_a_big_share_declines():
    declined = every_decline()
    answers = [d.messages[-1].content for d in training_sample()]
    assert sum(answer in declined for answer in answers) > len(answers) / 6


def test_a_dialogue_ends_with_an_accepted_answer():
    for one in training_sample(9, 2000):
        last = one.messages[-1]
        said = last.content or last.tool_calls[0].text()
        assert last.role == "assistant"
        assert said in one.accepted


def test_tool_calls_are_json_and_name_an_offered_tool():
    for one in training_sample(11, 3000):
        for call in (call for m in one.messages for call in m.tool_calls):
            written = json.loads(call.text())
            tool = next(tool for tool in one.tools if tool.name == written["name"])
            assert set(written["arguments"]) == set(tool.parameters)


def test_json_answers_are_json():
    rng = random.Random(2)
    for _ in range(100):
        assert "name" in json.loads(as_json(rng, Part.TRAINING).answer)


def test_long_rows_get_long_dialogues():
    rng = random.Random(2)
    lengths = [len(dialogue(rng, long=True).messages) for _ in range(50)]
    assert min(lengths) > 20


def test_a_pattern_expands_to_each_of_its_alternatives():
    assert expand_all("[a|b] c[|d]") == ["a c", "a cd", "b c", "b cd"]
    assert expand("[a|b] c[|d]", random.Random(1)) in expand_all("[a|b] c[|d]")


def test_noise_keeps_digits():
    rng = random.Random(3)
    for _ in range(300):
        typed = spoken("add 4711 to 815", rng)
        assert "4711" in typed
        assert "815" in typed


def test_the_corpus_needs_no_torch():
    code = (
        "import sys, engine.tinychat.corpus, engine.tinychat.facts; "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
