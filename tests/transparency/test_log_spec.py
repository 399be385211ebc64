"""docs/spec/log.md: its worked example is made again here, byte for byte."""

import re
from pathlib import Path

import pytest

from transparency import note, signing
from transparency.checkpoint import Checkpoint
from transparency.leaf import (
    KeyRotationLeaf,
    LeafType,
    ListedNode,
    ModelLeaf,
    NodeLeaf,
    NodeListLeaf,
    Role,
    RoleKeys,
    WithdrawalLeaf,
    sign_leaf,
)
from transparency.merkle import Tree
from transparency.note import KeyType, Note, Signer
from transparency.policy import LogPolicy
from transparency.policy_text import encode_policy
from transparency.proof import LogProof, verify_proof
from transparency.statements import statements_digest
from wire.merkle import leaf_hash

PAGE = (Path(__file__).parents[2] / "docs/spec/log.md").read_text()
NODE, BUNDLE, MODEL = b"\xd0" * 32, b"\xb0" * 32, b"\xa0" * 32
EPOCH = 3_000_000
COSIGNED_AT = 1_799_999_990


def key(number):
    return signing.private_key(bytes([number]) * 32)


ROLES = RoleKeys(*(signing.public_bytes(key(number)) for number in (1, 2, 3)))
LOG = Signer("log.example", KeyType.ED25519, key(5))
WITNESSES = tuple(
    Signer(f"witness.example/w{number}", KeyType.COSIGNATURE, key(5 + number)) for number in (1, 2)
)
POLICY = LogPolicy(str(LOG.verifier_key), tuple(str(w.verifier_key) for w in WITNESSES), 2)

MODEL_LEAF = sign_leaf(ModelLeaf("m", MODEL), key(1))
NODE_LEAF = sign_leaf(NodeLeaf(NODE, BUNDLE, EPOCH * 600 + 21_600), key(4))
LIST_LEAF = sign_leaf(
    NodeListLeaf(
        EPOCH,
        EPOCH * 600,
        EPOCH * 600 + 600,
        (ListedNode(NODE, "m", 1),),
        statements_digest([leaf_hash(MODEL_LEAF.encode())]),
    ),
    key(3),
)
LEAVES = (MODEL_LEAF, NODE_LEAF, LIST_LEAF)


def tree():
    made = Tree()
    for leaf in LEAVES:
        made.append(leaf_hash(leaf.encode()))
    return made


def checkpoint():
    text = Checkpoint(LOG.name, 3, tree().root()).encode()
    cosignatures = [note.cosign(text, witness, COSIGNED_AT) for witness in WITNESSES]
    return Note(text, (note.sign(text, LOG), *cosignatures)).encode()


def log_proof():
    return LogProof(1, tree().inclusion_proof(1, 3), checkpoint())


def said(text):
    """Whether the page says this, however it breaks the line."""
    return re.sub(r"\s", "", text) in re.sub(r"\s", "", PAGE)


WORKED = {
    "model body": MODEL_LEAF.body.hex(),
    "model leaf": MODEL_LEAF.encode().hex(),
    "model leaf hash": leaf_hash(MODEL_LEAF.encode()).hex(),
    "node body": NODE_LEAF.body.hex(),
    "node signature": NODE_LEAF.signature.hex(),
    "node leaf hash": leaf_hash(NODE_LEAF.encode()).hex(),
    "list body": LIST_LEAF.body.hex(),
    "list signature": LIST_LEAF.signature.hex(),
    "list leaf hash": leaf_hash(LIST_LEAF.encode()).hex(),
    "root": tree().root().hex(),
    "checkpoint": checkpoint().decode(),
    "log proof": log_proof().encode(),
    "policy": encode_policy(POLICY),
    "rotation body": KeyRotationLeaf.make(Role.RELEASE, ROLES.release, key(9)).encode().hex(),
    "withdrawal body": WithdrawalLeaf(leaf_hash(MODEL_LEAF.encode()), "a flaw").encode().hex(),
}


@pytest.mark.parametrize("name", WORKED)
def test_the_page_has_these_bytes(name):
    assert said(WORKED[name]), f"{name}:\n{WORKED[name]}"


def test_the_example_verifies():
    for leaf in LEAVES:
        leaf.verify(ROLES)
    proof = LogProof.parse(log_proof().encode())
    assert verify_proof(proof, NODE_LEAF.encode(), policy=POLICY, at=COSIGNED_AT + 60).size == 3


@pytest.mark.parametrize("kind", LeafType)
def test_every_kind_of_leaf_is_on_the_page(kind):
    assert f"`{kind}`" in PAGE
