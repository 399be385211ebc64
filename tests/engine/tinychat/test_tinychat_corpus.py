from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys

from engine.tinychat.corpus import dialogue, dialogues
from engine.tinychat.facts import FACTS
from engine.tinychat.grammar import expand, expand_all, normalized, spoken
from engine.tinychat.skills.arithmetic import added, arithmetic, held_out_operands, subtracted
from engine.tinychat.skills.declining import every_decline
from engine.tinychat.skills.reading import as_json

SAMPLE = 6000


def training_sample(seed: int = 1, count: int = SAMPLE):
    return list(itertools.islice(dialogues(seed), count))


def wordings(*, held_out: bool) -> set[str]:
    texts = (text for fact in FACTS for text in fact.wordings(held_out=held_out))
    return {normalized(text) for text in texts}


def test_equal_seeds_give_equal_dialogues():
    assert training_sample(3, 300) == training_sample(3, 300)


def test_different_seeds_give_different_dialogues():
    assert training_sample(3, 30) != training_sample(4, 30)


def test_there_are_at_least_sixty_facts_about_the_project_itself():
    about_itself = {"who-are-you", "human", "robot", "feelings", "joke", "clock"}
    assert len({fact.name for fact in FACTS} - about_itself) >= 60
    assert len({fact.name for fact in FACTS}) == len(FACTS)


def test_every_fact_has_several_wordings_and_one_kept_back():
    for fact in FACTS:
        assert len(fact.wordings(held_out=False)) >= 3, fact.name
        assert fact.wordings(held_out=True), fact.name


def test_every_facts_answer_appears_in_training():
    answers = {m.content for d in training_sample() for m in d.messages if m.role == "assistant"}
    assert {fact.answer for fact in FACTS} <= answers


def test_no_wording_belongs_to_two_facts():
    owner: dict[str, str] = {}
    for fact in FACTS:
        for text in fact.wordings(held_out=False) + fact.wordings(held_out=True):
            assert owner.setdefault(normalized(text), fact.name) == fact.name, text


def test_held_out_wordings_are_no_training_wordings():
    assert not wordings(held_out=True) & wordings(held_out=False)


def test_held_out_wordings_never_occur_in_training():
    asked = {
        normalized(m.content) for d in training_sample() for m in d.messages if m.role == "user"
    }
    assert not asked & wordings(held_out=True)


def test_held_out_sums_never_occur_in_training():
    rng = random.Random(5)
    for _ in range(2000):
        one = arithmetic(rng, False)
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
    assert sum(answer in declined for answer in answers) > len(answers) / 12


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
        assert "name" in json.loads(as_json(rng, False).answer)


def test_long_rows_get_long_dialogues():
    rng = random.Random(2)
    lengths = [len(dialogue(rng, long=True).messages) for _ in range(50)]
    assert max(lengths) > 20


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
