"""The log against @sigstore/verify, which reads the checkpoints and proofs of the public Rekor log.

It shares no code with us and knows nothing of our leaves: notes, cosigned or not, and RFC 6962.
"""

import pytest

from transparency import note
from transparency.checkpoint import Checkpoint
from transparency.merkle import Tree
from transparency.note import KeyType, Note, Signer
from wire.merkle import leaf_hash

LOG = Signer.from_seed("log.example/fleet", KeyType.ED25519, b"\x07" * 32)
OTHER = Signer.from_seed("log.example/fleet", KeyType.ED25519, b"\x08" * 32)
WITNESS = Signer.from_seed("witness.example/w1", KeyType.COSIGNATURE, b"\x09" * 32)
SIZES = (1, 2, 3, 5, 6, 7, 8, 11, 31, 33, 100, 255, 256, 257, 300)


@pytest.fixture(scope="module")
def theirs(peer):
    return peer("log.mjs")


@pytest.fixture(scope="module")
def tree():
    tree = Tree()
    for number in range(max(SIZES)):
        tree.append(leaf_hash(entry(number)))
    return tree


def entry(number):
    return b"leaf %d" % number


def signed(tree, size, *witnesses, signer=LOG):
    text = Checkpoint(LOG.name, size, tree.root(size)).encode()
    lines = [note.sign(text, signer), *(note.cosign(text, w, 1_800_000_000) for w in witnesses)]
    return Note(text, tuple(lines)).encode()


def ask(theirs, data, key=LOG):
    verifier = key.verifier_key
    return theirs.call(
        "checkpoint",
        note=data,
        origin=verifier.name,
        key_id=verifier.key_id,
        public_key=verifier.public_key,
    )


@pytest.mark.parametrize("witnesses", [(), (WITNESS,)])
def test_they_verify_and_read_a_checkpoint(theirs, tree, witnesses):
    found = ask(theirs, signed(tree, 300, *witnesses))
    assert found == {"origin": LOG.name, "size": 300, "root": tree.root(300).hex()}


def test_they_refuse_a_checkpoint_by_another_key_or_over_another_text(theirs, tree, refused):
    forged = signed(tree, 300).replace(b"\n300\n", b"\n301\n")
    for data, key in (
        (signed(tree, 300, signer=OTHER), LOG),
        (signed(tree, 300), OTHER),
        (forged, LOG),
    ):
        with pytest.raises(refused):
            ask(theirs, data, key)


@pytest.mark.parametrize("size", SIZES)
def test_they_verify_our_inclusion_proofs(theirs, tree, size):
    for index in sorted({0, 1, size // 2, size // 3, size - 2, size - 1} & set(range(size))):
        hashes = tree.inclusion_proof(index, size)
        root = tree.root(size)
        asked = {"leaf": entry(index), "index": index, "size": size, "root": root}
        assert theirs.call("inclusion", hashes=list(hashes), **asked) == {"index": index}


def test_they_refuse_what_we_refuse(theirs, tree, refused):
    hashes = list(tree.inclusion_proof(5, 11))
    honest = {"leaf": entry(5), "index": 5, "size": 11, "root": tree.root(11), "hashes": hashes}
    assert theirs.call("inclusion", **honest)
    for change in (
        {"leaf": entry(6)},
        {"index": 6},
        {"size": 6},
        {"root": tree.root(12)},
        {"hashes": hashes[:-1]},
        {"hashes": [*hashes, bytes(32)]},
        {"hashes": [bytes(32), *hashes[1:]]},
    ):
        with pytest.raises(refused):
            theirs.call("inclusion", **{**honest, **change})
