"""Proof that a log misbehaved, in a form that can be published.

Canonical JSON:

    {"code", "message",
     "checkpoints": [text, ...],          signed notes of the log, the older one first
     "leaves": [base64, ...],             leaves of the log
     "log_proofs": [text, ...],           none, or one c2sp.org/tlog-proof a leaf
     "prefix_root": base64, "proof": [base64, ...]}

Of a fork between two sizes, `prefix_root` is the root over the newer tree's first leaves, as many
as the older one has, and `proof` leads from it to the newer root: the older note says otherwise.

`check_misbehaviour` needs nothing but this and the log's keys. Some of what a client or a monitor
refuses is no proof to others: a cache, too, can show an old checkpoint. Then it raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transparency.checkpoint import Checkpoint
from transparency.errors import (
    Inconsistent,
    Malformed,
    NotConvicting,
    TransparencyError,
    TwoLists,
)
from transparency.leaf import Leaf, NodeListLeaf
from transparency.members import members, typed
from transparency.merkle import HASH_LENGTH, verify_consistency, verify_inclusion
from transparency.note import Note, VerifierKey
from transparency.policy import verify_log_signature
from transparency.proof import LogProof, parse_hashes
from transparency.text import decode_base64, encode_base64
from wire import canonical_json
from wire.errors import WireError
from wire.merkle import leaf_hash

MAX_LENGTH = 1 << 20
_MEMBERS = ("code", "message", "checkpoints", "leaves", "log_proofs", "prefix_root", "proof")


@dataclass(frozen=True)
class Misbehaviour:
    """What was seen: the error's code and message, and the log's own words that show it."""

    code: str
    message: str
    checkpoints: tuple[bytes, ...] = ()
    leaves: tuple[bytes, ...] = ()
    log_proofs: tuple[LogProof, ...] = ()
    prefix_root: bytes = b""
    proof: tuple[bytes, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the members, ready for JSON."""
        return {
            "code": self.code,
            "message": self.message,
            "checkpoints": [note.decode() for note in self.checkpoints],
            "leaves": [encode_base64(leaf) for leaf in self.leaves],
            "log_proofs": [proof.encode() for proof in self.log_proofs],
            "prefix_root": encode_base64(self.prefix_root),
            "proof": [encode_base64(item) for item in self.proof],
        }

    def encode(self) -> bytes:
        """Return the one encoding."""
        return canonical_json.encode(self.to_json())

    @classmethod
    def decode(cls, data: bytes) -> Misbehaviour:
        """Parse what `encode` wrote; nothing is verified.

        Raises:
            Malformed: anything else, or more than a megabyte.
        """
        if len(data) > MAX_LENGTH:
            raise Malformed("a proof of misbehaviour of more than 1 MiB")
        try:
            value = canonical_json.decode(data)
            exact = canonical_json.encode(value) == data
        except WireError as error:
            raise Malformed("a proof of misbehaviour is JSON") from error
        code, message, notes, leaves, log_proofs, prefix_root, proof = members(value, _MEMBERS)
        found = cls(
            typed(code, str),
            typed(message, str),
            tuple(_note(note) for note in typed(notes, list)),
            tuple(decode_base64(typed(leaf, str)) for leaf in typed(leaves, list)),
            tuple(LogProof.parse(typed(text, str)) for text in typed(log_proofs, list)),
            decode_base64(typed(prefix_root, str)),
            parse_hashes([typed(item, str) for item in typed(proof, list)]),
        )
        if not exact or len(found.prefix_root) not in {0, HASH_LENGTH}:
            raise Malformed("a proof of misbehaviour is canonical JSON")
        return found


def from_inconsistent(error: Inconsistent) -> Misbehaviour:
    """Return what a refused checkpoint leaves behind: both notes, and the proof that failed."""
    return Misbehaviour(error.code, str(error), (error.older, error.newer), proof=error.proof)


def from_two_lists(error: TwoLists) -> Misbehaviour:
    """Return what two lists for one epoch leave behind: both leaves, each signed."""
    return Misbehaviour(error.code, str(error), leaves=(error.first, error.second))


def check_misbehaviour(
    found: Misbehaviour, log_key: VerifierKey, list_keys: frozenset[bytes]
) -> str:
    """Return in a sentence what is proven to whoever knows only these keys to be the log's.

    `list_keys` are the keys that have or had the list role.

    Raises:
        NotConvicting: nothing is proven by this alone.
    """
    try:
        checkpoints = [verify_log_signature(Note.parse(n), [log_key]) for n in found.checkpoints]
        if found.code == TwoLists.code:
            return _check_two_lists(found.leaves, list_keys)
        if len(found.leaves) == len(found.log_proofs) == 1:
            return _check_bad_leaf(found.leaves[0], found.log_proofs[0], log_key)
        if len(checkpoints) == 2:
            return _check_fork(found, *checkpoints)
    except NotConvicting:
        raise
    except TransparencyError as error:
        raise NotConvicting(f"it does not hold together: {error}") from error
    raise NotConvicting("what was seen is no proof to those who did not see it")


def _check_fork(found: Misbehaviour, older: Checkpoint, newer: Checkpoint) -> str:
    if older.size == newer.size and older.root != newer.root:
        return f"the log signed two roots for size {older.size}"
    if not 0 < older.size < newer.size or not found.prefix_root:
        raise NotConvicting("two checkpoints without what tells their trees apart")
    verify_consistency(older.size, found.prefix_root, newer.size, newer.root, found.proof)
    if found.prefix_root == older.root:
        raise NotConvicting("the two checkpoints are consistent")
    return f"the tree of {newer.size} leaves does not continue the log's own of {older.size}"


def _check_two_lists(leaves: tuple[bytes, ...], list_keys: frozenset[bytes]) -> str:
    epochs = set()
    for leaf in map(Leaf.decode, leaves):
        leaf.verify_signature()
        body = leaf.unverified_body()
        if leaf.key not in list_keys or not isinstance(body, NodeListLeaf):
            raise NotConvicting("a leaf that is no node list by the list key")
        epochs.add(body.epoch)
    if len(set(leaves)) < 2 or len(epochs) != 1:
        raise NotConvicting("not two lists for one epoch")
    return f"the list key signed {len(set(leaves))} node lists for epoch {epochs.pop()}"


def _check_bad_leaf(leaf: bytes, proof: LogProof, log_key: VerifierKey) -> str:
    tree = verify_log_signature(Note.parse(proof.checkpoint), [log_key])
    verify_inclusion(leaf_hash(leaf), proof.index, tree.size, proof.hashes, tree.root)
    try:
        parsed = Leaf.decode(leaf)
        parsed.verify_signature()
        parsed.unverified_body()
    except TransparencyError as error:
        return f"leaf {proof.index} of the log is none: {error}"
    raise NotConvicting("a leaf that is what it should be, as far as it shows by itself")


def _note(value: Any) -> bytes:  # noqa: ANN401 - decoded JSON is of any shape
    note: bytes = typed(value, str).encode()
    Note.parse(note)
    return note
