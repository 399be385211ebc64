"""What the documents name is there: files, make targets, commands."""

import re
from pathlib import Path

import pytest

from sottovoce.cli import COMMANDS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(document):
    named = re.findall(
        r"`((?:tests|docs|deploy|engine|wire|client|server)/[\w./-]+)`", document.read_text()
    )
    for name in named:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_make_targets_exist(document):
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z]+)", document.read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_commands_exist(document):
    for command in re.findall(r"`sottovoce ([a-z]+)", document.read_text()):
        assert command in COMMANDS, command


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_merge_was_left_half_done(document):
    text = document.read_text()
    assert not re.search(r"^(<{7}|>{7}|={7}$)", text, re.MULTILINE)


def test_the_index_names_every_document():
    docs = ROOT / "docs"
    named = set(re.findall(r"\]\(([^)#]+\.md)\)", (docs / "README.md").read_text()))
    there = {str(path.relative_to(docs)) for path in docs.rglob("*.md")} - {"README.md"}
    assert named == {path for path in there if not path.startswith("spec/vectors/")}
