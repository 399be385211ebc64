"""Random flips over every signed region: none is accepted. The heavy form has 10,000 a region."""

import random

import pytest

from transparency import note
from transparency.amendments import KeyRotationLeaf, Role
from transparency.errors import TransparencyError
from transparency.leaf import Leaf, ModelLeaf, sign_leaf
from transparency.misbehaviour import Misbehaviour, check_misbehaviour
from transparency.note import Note
from transparency.proof import LogProof, verify_proof

SLICE, WHOLE = 200, 10_000


def flipped(data, generator):
    """One to three changed bytes, never none."""
    changed = bytearray(data)
    for position in generator.sample(range(len(data)), generator.choice((1, 1, 1, 2, 3))):
        changed[position] ^= generator.randrange(1, 256)
    return bytes(changed)


def refused(data, accept, count):
    """Flip `data` so often; `accept` raises each time. What is accepted is the same, or a fault."""
    accept(data)
    generator = random.Random(len(data))
    for _ in range(count):
        changed = flipped(data, generator)
        with pytest.raises(TransparencyError):
            accept(changed)


def regions(world):
    log, index = world.fleet()
    document = log.document(index).encode()
    cosigned = log.note(witnesses=world.witnesses)
    first, rest = cosigned.split(b"\n\n")
    log_line, *witness_lines = rest.splitlines(keepends=True)
    leaf = sign_leaf(ModelLeaf("m", world.seed("m")), world.key("release"))
    body = KeyRotationLeaf.make(Role.ISSUER, world.public("issuer"), world.key("next"))
    rotation = sign_leaf(body, world.key("issuer"))
    node = Leaf.decode(log.entries[4])
    proof = log.proven(4).proof
    two = Misbehaviour("two_lists", "x", leaves=two_lists(world))

    def note_text(data):
        world.policy.verify(data + b"\n\n" + rest, world.at)

    def log_signature(data):
        world.policy.verify(first + b"\n\n" + data + b"".join(witness_lines), world.at)

    def cosignature(data):
        """Of a policy that wants all three, so that a line that is not theirs is missed."""
        strict = type(world.policy)(world.policy.log_vkey, world.policy.witness_vkeys, 3)
        lines = [log_line, data, *witness_lines[1:]]
        strict.verify(first + b"\n\n" + b"".join(lines), world.at)

    def raw_cosignature(data):
        line = Note.parse(cosigned).by(world.policy.witness_keys[0])[0]
        made = note.NoteSignature(line.name, line.key_id, data)
        note.verify_cosignature(Note.parse(cosigned).text, made, world.policy.witness_keys[0])

    def audit_path(data):
        hashes = tuple(data[i : i + 32] for i in range(0, len(data), 32))
        made = LogProof(4, hashes, cosigned)
        verify_proof(made, log.entries[4], policy=world.policy, at=world.at)

    def included_leaf(data):
        verify_proof(LogProof(4, proof, cosigned), data, policy=world.policy, at=world.at)

    def node_leaf(data):
        """A node's leaf names its own key: a changed one is at least another leaf of the log."""
        Leaf.decode(data).verify(world.roles)
        included_leaf(data)

    def conviction(data):
        made = Misbehaviour.decode(data)
        keys = frozenset({world.roles.list})
        check_misbehaviour(made, world.log.verifier_key, keys)
        if (made.leaves, made.code) != (two.leaves, two.code):
            raise TransparencyError("something else is proven")
        if made.message != two.message:
            raise TransparencyError("the message is not signed by anybody")

    return {
        "note text": (first, note_text),
        "log signature line": (log_line, log_signature),
        "cosignature line": (witness_lines[0], cosignature),
        "cosignature": (Note.parse(cosigned).signatures[1].signature, raw_cosignature),
        "audit path": (b"".join(proof), audit_path),
        "leaf": (leaf.encode(), lambda data: Leaf.decode(data).verify(world.roles)),
        "rotation": (rotation.encode(), lambda data: Leaf.decode(data).verify(world.roles)),
        "node leaf": (node.encode(), node_leaf),
        "included leaf": (log.entries[4], included_leaf),
        "nodes document": (document, world.verify),
        "proof of misbehaviour": (two.encode(), conviction),
    }


def two_lists(world):
    log = world.fake_log()
    rows = [log.add_node(name) for name in ("x", "y")]
    bodies = [log.list_body(*rows), log.list_body(rows[0])]
    return tuple(sign_leaf(body, world.key("list")).encode() for body in bodies)


NAMES = (
    "note text",
    "log signature line",
    "cosignature line",
    "cosignature",
    "audit path",
    "leaf",
    "rotation",
    "node leaf",
    "included leaf",
    "nodes document",
    "proof of misbehaviour",
)


@pytest.mark.parametrize("name", NAMES)
def test_no_flip_is_accepted(world, name):
    refused(*regions(world)[name], SLICE)


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_no_flip_of_ten_thousand_is_accepted(world, name):
    refused(*regions(world)[name], WHOLE)
