"""Every statement about another system names its public source, and every source its date."""

import re
from pathlib import Path

PAGE = (Path(__file__).parent.parent / "docs" / "comparison.md").read_text()
BODY, _, SOURCES = PAGE.partition("\n## Sources\n")
CITED = re.compile(r"\[([A-Z]\d(?:, [A-Z]\d)*)\]")
OURS = 1
"""The column of sottovoce, after that of the feature."""


def cited(text):
    return {code for found in CITED.findall(text) for code in found.split(", ")}


def section(title):
    return BODY.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_source_that_is_cited_is_listed_and_every_listed_one_cited():
    assert cited(BODY) == set(re.findall(r"\b([A-Z]\d)\s", SOURCES))


def test_every_thing_that_others_have_names_its_source():
    lacked = section("What they have and sottovoce lacks")
    for item in re.split(r"^- ", lacked, flags=re.MULTILINE)[1:]:
        assert cited(item), item


def test_every_cell_of_another_system_names_its_source_or_claims_nothing():
    head, _, *rows = re.findall(r"^\|(.*)\|$", section("Feature by feature"), re.MULTILINE)
    for row in rows:
        cells = [cell.strip() for cell in row.split("|")]
        assert len(cells) == len(head.split("|"))
        for cell in cells[OURS + 1 :]:
            assert cited(cell) or cell in {"?", "-", "no"}, row


def test_a_repository_is_named_with_the_commit_that_was_read_and_the_day():
    assert re.search(r"Read on \d{4}-\d\d-\d\d\.", SOURCES)
    whole_trees = re.findall(r"`[\w-]+/[\w-]+`(?: at ([0-9a-f]{7}))?", SOURCES)
    assert sum(bool(commit) for commit in whole_trees) >= 10


def test_it_begins_with_what_sottovoce_lacks():
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE)[0] == "What they have and sottovoce lacks"
