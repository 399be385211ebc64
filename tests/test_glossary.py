"""The glossary: in order, one sentence each, and no role, party or weakness of ours is missing."""

import re
from pathlib import Path

import pytest

from server.logs import Role

PAGE = (Path(__file__).parent.parent / "docs" / "glossary.md").read_text()
ROWS = [
    [cell.strip() for cell in line.split("|")]
    for line in re.findall(r"^\|(.*)\|$", PAGE, re.MULTILINE)[2:]
]
TERMS = [term.strip("`") for term, _, _ in ROWS]
ASKED = """
    client relay gateway target encapsulate decapsulate sender recipient enc info aad seal open
    export attester verifier evidence endorsement claim origin issuer token issuance redemption
    finalize log entry leaf checkpoint witness monitor sequence block prefill decode step release
    measurement node receipt
"""
STANDARDS = re.compile(r"RFC \d{4}|C2SP|ours|the vLLM family|VeriAttn|Intel|AMD|TCG")


def test_terms_are_in_order_and_each_stands_once():
    assert sorted(TERMS, key=lambda term: term.replace("_", " ").lower()) == TERMS
    assert len(set(TERMS)) == len(TERMS)


@pytest.mark.parametrize("row", ROWS, ids=TERMS)
def test_a_term_has_its_source_and_one_sentence(row):
    _, source, sentence = row
    assert all(STANDARDS.fullmatch(each) for each in source.split(", "))
    assert re.fullmatch(r"(`|[A-Z0-9]).*[^.]\.", sentence)
    assert ". " not in sentence


def test_every_role_and_party_is_explained():
    parties = {"client", "relay", "issuer", "spent-token store", "worker", "log", "witness"}
    assert {role.value for role in Role} | parties <= set(TERMS)


def test_every_word_of_the_standards_that_the_house_style_asks_for_is_explained():
    asked = re.findall(r"\w+", ASKED)
    several = {
        "key config", "relying party", "reference value", "appraisal policy", "attestation result",
        "token challenge", "blind sign", "inclusion proof", "consistency proof", "block table",
        "verified node",
    }  # fmt: skip
    assert {*asked, *several} <= set(TERMS)
