from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
import torch

from engine.tinychat.acceptance import _up_to_the_end
from engine.tinychat.dialogue import Dialogue, Message
from engine.tinychat.evaluate import (
    DISTANCES,
    SKILLS,
    Answered,
    Report,
    Score,
    false_refusals,
    markdown,
    scores,
    shown,
)
from engine.tinychat.plot import losses, picture, smoothed
from engine.tinychat.publish import BEGINS, ENDS, rewritten
from engine.tinychat.skills.declining import DECLINING


def said(skill: str, text: str, right: str = "Yes.") -> Answered:
    messages = (Message("user", "?"), Message("assistant", right))
    return Answered(Dialogue(skill, messages, (right,)), text)


def test_wilsons_interval_of_ninety_of_a_hundred():
    low, high = Score(90, 100).interval
    assert (low, high) == pytest.approx((0.826, 0.945), abs=0.001)


def test_an_interval_stays_between_nothing_and_all():
    assert Score(0, 10).interval[0] == pytest.approx(0.0)
    assert Score(10, 10).interval[1] == pytest.approx(1.0)


def test_any_sentence_of_declining_is_right_where_one_must_decline():
    assert said("declining", DECLINING[3]).right
    assert not said("facts", DECLINING[3]).right


def test_a_refusal_of_what_has_an_answer_is_false():
    results = [said("facts", DECLINING[0]), said("facts", "No."), said("declining", DECLINING[0])]
    assert false_refusals(results) == Score(1, 2)


def test_a_report_has_a_row_for_every_skill_and_distance():
    found = scores([said("facts", "Yes."), said("facts", "No.")])
    assert found == {"facts": Score(1, 2)}
    every = dict.fromkeys(SKILLS, Score(1, 2))
    misspelt = {"facts": Score(0, 2)}
    distances = {DISTANCES[0]: Score(1, 2)}
    report = Report({"fresh": every}, {"fresh": Score(0, 2)}, misspelt, distances, [])
    rows = markdown(report).splitlines()
    assert f"| facts | {shown(Score(1, 2))} |" in rows
    assert f"| facts | {shown(Score(0, 2))} |" in rows
    assert rows[-1] == f"| 0 to 128 | {shown(Score(1, 2))} |"


def test_an_answer_counts_up_to_and_with_its_end():
    ids = torch.tensor([[5, 6, 2, 2], [2, 2, 2, 2], [5, 6, 7, 8]])
    assert _up_to_the_end(ids, 2).sum(dim=1).tolist() == [3, 1, 4]


def test_a_curve_is_smoothed_to_few_points():
    line = smoothed([2.0, 4.0, 6.0, 8.0], points=2)
    assert line == [(0.25, 3.0), (0.75, 7.0)]


def test_the_plot_is_an_svg_with_a_line_for_each_run():
    root = ET.fromstring(picture({"model": [4.0, 2.0, 1.0], "draft": [5.0, 3.0]}))
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2


def test_losses_are_read_from_the_log_of_a_run(tmp_path):
    lines = [json.dumps({"step": step, "loss": loss}) for step, loss in ((1, 2.5), (2, 1.5))]
    (tmp_path / "loss.jsonl").write_text("\n".join(lines) + "\n")
    assert losses(tmp_path) == [2.5, 1.5]


def test_only_the_measured_part_of_the_card_is_rewritten():
    card = f"before\n{BEGINS}\nold\n{ENDS}\nafter\n"
    once = rewritten(card, "new")
    assert once == f"before\n{BEGINS}\n\nnew\n\n{ENDS}\nafter\n"
    assert rewritten(once, "new") == once
