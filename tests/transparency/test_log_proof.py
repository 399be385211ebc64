"""c2sp.org/tlog-proof: one text, one spelling, offline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transparency.errors import (
    Malformed,
    NotIncluded,
    QuorumMissing,
    TransparencyError,
)
from transparency.proof import LogProof, parse_hashes, verify_proof
from transparency.text import encode_base64


@pytest.fixture(scope="module")
def log(world):
    return world.fleet()[0]


@pytest.fixture(scope="module")
def proof(log):
    return LogProof(3, log.tree.inclusion_proof(3, log.tree.size), log.note())


def test_a_proof_proves_its_leaf(world, log, proof):
    checkpoint = verify_proof(proof, log.entries[3], policy=world.policy, at=world.at)
    assert checkpoint.size == log.tree.size


def test_the_text_is_that_of_the_specification(proof):
    hashes = [encode_base64(item) for item in proof.hashes]
    lines = ["c2sp.org/tlog-proof@v1", "index 3", *hashes, "", proof.checkpoint.decode()]
    assert proof.encode() == "\n".join(lines)
    assert LogProof.parse(proof.encode()) == proof


def test_extra_data_travels_and_proves_nothing(world, log, proof):
    extended = LogProof(proof.index, proof.hashes, proof.checkpoint, b"extra data")
    assert "\nextra ZXh0cmEgZGF0YQ==\nindex 3\n" in extended.encode()
    assert LogProof.parse(extended.encode()) == extended
    verify_proof(extended, log.entries[3], policy=world.policy, at=world.at)


def test_a_proof_of_the_only_leaf_has_no_hashes(world):
    log = world.fake_log()
    row = log.add_node("one")
    proof = LogProof(0, (), log.note())
    assert LogProof.parse(proof.encode()) == proof
    assert row.node
    verify_proof(proof, log.entries[0], policy=world.policy, at=world.at)


def test_a_proof_does_not_prove_another_leaf_place_or_checkpoint(world, log, proof):
    def verify(leaf=log.entries[3], **changes):
        members = {"index": 3, "hashes": proof.hashes, "checkpoint": proof.checkpoint, **changes}
        verify_proof(LogProof(**members), leaf, policy=world.policy, at=world.at)

    verify()
    with pytest.raises(NotIncluded):
        verify(leaf=log.entries[2])
    with pytest.raises(NotIncluded):
        verify(index=2)
    with pytest.raises(NotIncluded):
        verify(hashes=proof.hashes[::-1])
    with pytest.raises(NotIncluded):
        verify(checkpoint=log.note(size=5))
    with pytest.raises(QuorumMissing):
        verify(checkpoint=log.note(witnesses=()))


def test_other_spellings_are_refused(proof):
    text = proof.encode()
    for changed in (
        "",
        text.replace("@v1", "@v2"),
        text.replace("index 3", "index 03"),
        text.replace("index 3", "index -3"),
        text.replace("index 3", "index  3"),
        text.replace("index 3\n", ""),
        text.replace("index 3", "extra \nindex 3"),
        text.replace("index 3", "extra AB==\nindex 3"),
        text.replace("index 3", "index 3\nextra AAAA"),
        text.replace("\n\n", "\n"),
        text.replace("=\n", "\n"),
        text + "\n",
        " " + text,
        text * 200,
    ):
        with pytest.raises(Malformed):
            LogProof.parse(changed)


@given(cut=st.integers(0, 10_000))
def test_no_truncated_proof_is_accepted(world, log, proof, cut):
    text = proof.encode()
    with pytest.raises(TransparencyError):
        verify_proof(
            LogProof.parse(text[: cut % len(text)]),
            log.entries[3],
            policy=world.policy,
            at=world.at,
        )


@given(text=st.text(max_size=300))
def test_any_text_is_a_proof_or_malformed(text):
    with pytest.raises(Malformed):
        LogProof.parse(text)
    with pytest.raises(Malformed):
        LogProof.parse(f"c2sp.org/tlog-proof@v1\nindex 0\n\n{text}\ud800")


def test_a_proof_with_more_hashes_than_any_tree_needs_is_refused():
    assert len(parse_hashes([encode_base64(bytes(32))] * 63)) == 63
    with pytest.raises(Malformed):
        parse_hashes([encode_base64(bytes(32))] * 64)


def test_a_proof_of_more_than_128_kib_is_refused(proof):
    with pytest.raises(Malformed, match="128"):
        LogProof.parse(proof.encode() + "x" * (128 << 10))
