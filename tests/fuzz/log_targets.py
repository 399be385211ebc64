"""The decoders of `transparency`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from tests.fuzz.target import Target
from tests.transparency.conftest import LOG, POLICY, START, WITNESSES, FakeLog, seed
from transparency import amendments, statements, text, tiles
from transparency.checkpoint import Checkpoint
from transparency.errors import Malformed
from transparency.leaf import Leaf, Role, WithdrawalLeaf
from transparency.misbehaviour import Misbehaviour
from transparency.nodes_document import ConsistencyProof, NodesDocument, SeenCheckpoint
from transparency.note import Note, NoteSignature, VerifierKey
from transparency.policy_text import encode_policy, parse_policy
from transparency.proof import LogProof, parse_hashes
from transparency.tiles import Tile
from transparency.witness_request import AddCheckpoint
from wire.merkle import leaf_hash

ERRORS = (Malformed,)
HASHES = tuple(seed(name) for name in "abc")


@cache
def log() -> FakeLog:
    """A log with every kind of leaf in it."""
    made = FakeLog()
    made.add_statements()
    made.add_rotation(Role.ISSUER, "issuer", "issuer 2")
    made.add(WithdrawalLeaf(leaf_hash(made.entries[0]), "a flaw"), "release")
    made.add_list(made.add_node("one"), made.add_node("two"))
    return made


def leaves() -> Iterator[bytes]:
    yield from log().entries


def bodies(kind: Any) -> Callable[[], list[bytes]]:
    def of_the_log() -> list[bytes]:
        found = []
        for body in (Leaf.decode(entry).body for entry in log().entries):
            try:
                kind.decode(body)
            except Malformed:
                continue
            found.append(body)
        return found

    return of_the_log


def documents() -> Iterator[bytes]:
    indexes = range(len(log().entries))
    *others, node_list = (log().proven(index) for index in indexes)
    consistency = (ConsistencyProof(3, tuple(log().tree.consistency_proof(3, len(indexes)))),)
    yield NodesDocument(
        log().note(), node_list, tuple(others), dict(log().bundles), consistency
    ).encode()


def misbehaviours() -> Iterator[bytes]:
    size = len(log().entries)
    proof = tuple(log().tree.consistency_proof(3, size))
    notes = (log().note(size=3), log().note())
    yield Misbehaviour("inconsistent", "two trees", notes, (), (), HASHES[0], proof).encode()
    included = LogProof(1, log().proven(1).proof, log().note())
    yield Misbehaviour("malformed", "no leaf", (), (log().entries[1],), (included,)).encode()


def as_text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A decoder of text as one of bytes; what its callers give it was UTF-8 once."""

    def decode(data: bytes) -> Any:
        try:
            return parse(data.decode())
        except UnicodeDecodeError:
            raise Malformed("not text") from None

    return decode


def from_text(encode: Callable[[Any], str]) -> Callable[[Any], bytes]:
    return lambda value: encode(value).encode()


def signature_lines() -> list[bytes]:
    checkpoint = Note.parse(log().note())
    return [line.encode().removesuffix("\n").encode() for line in checkpoint.signatures]


BODIES = (
    statements.ReleaseLeaf,
    statements.ModelLeaf,
    statements.PolicyLeaf,
    statements.IssuerKeyLeaf,
    statements.NodeLeaf,
    statements.NodeListLeaf,
    amendments.KeyRotationLeaf,
    amendments.WithdrawalLeaf,
)

TARGETS = (
    Target(
        "note",
        Note.parse,
        ERRORS,
        lambda: [log().note()],
        ("transparency.note:Note.parse",),
        Note.encode,
    ),
    Target(
        "note-signature",
        as_text(NoteSignature.parse),
        ERRORS,
        signature_lines,
        ("transparency.note:NoteSignature.parse",),
        from_text(lambda line: line.encode().removesuffix("\n")),
    ),
    Target(
        "verifier-key",
        as_text(VerifierKey.parse),
        ERRORS,
        lambda: [str(signer.verifier_key).encode() for signer in (LOG, *WITNESSES)],
        ("transparency.note:VerifierKey.parse",),
        from_text(str),
    ),
    Target(
        "checkpoint",
        as_text(Checkpoint.parse),
        ERRORS,
        lambda: [Note.parse(log().note()).text.encode()],
        ("transparency.checkpoint:Checkpoint.parse",),
        from_text(Checkpoint.encode),
    ),
    Target(
        "log-proof",
        as_text(LogProof.parse),
        ERRORS,
        lambda: [
            LogProof(4, HASHES, log().note(), extra).encode().encode() for extra in (b"", b"x")
        ],
        ("transparency.proof:LogProof.parse",),
        from_text(LogProof.encode),
    ),
    Target("leaf", Leaf.decode, ERRORS, leaves, ("transparency.leaf:Leaf.decode",), Leaf.encode),
    *(
        Target(
            kind.__name__,
            kind.decode,
            ERRORS,
            bodies(kind),
            (f"{kind.__module__}:{kind.__name__}.decode",),
            kind.encode,
        )
        for kind in BODIES
    ),
    Target(
        "nodes-document",
        NodesDocument.decode,
        ERRORS,
        documents,
        ("transparency.nodes_format:NodesDocument.decode",),
        NodesDocument.encode,
    ),
    Target(
        "seen-checkpoint",
        SeenCheckpoint.decode,
        ERRORS,
        lambda: [SeenCheckpoint(log().note(), log().entries[-1]).encode()],
        ("transparency.nodes_format:SeenCheckpoint.decode",),
    ),
    Target(
        "witness-request",
        AddCheckpoint.parse,
        ERRORS,
        lambda: [AddCheckpoint(START % 97, HASHES, log().note()).encode()],
        ("transparency.witness_request:AddCheckpoint.parse",),
        AddCheckpoint.encode,
    ),
    Target(
        "tile-path",
        as_text(Tile.parse),
        ERRORS,
        lambda: [Tile(*each).path.encode() for each in ((0, 0), (None, 1234067, 8), (63, 999))],
        ("transparency.tiles:Tile.parse",),
        from_text(lambda tile: tile.path),
    ),
    Target(
        "tile",
        tiles.split_hashes,
        ERRORS,
        lambda: [b"".join(HASHES)],
        ("transparency.tiles:split_hashes",),
        b"".join,
    ),
    Target(
        "entries",
        tiles.decode_entries,
        ERRORS,
        lambda: [tiles.encode_entries(log().entries)],
        ("transparency.tiles:decode_entries",),
        tiles.encode_entries,
    ),
    Target(
        "misbehaviour",
        Misbehaviour.decode,
        ERRORS,
        misbehaviours,
        ("transparency.misbehaviour:Misbehaviour.decode",),
        Misbehaviour.encode,
    ),
    Target(
        "log-policy",
        as_text(parse_policy),
        ERRORS,
        lambda: [encode_policy(POLICY).encode()],
        ("transparency.policy_text:parse_policy",),
    ),
    Target(
        "decimal",
        as_text(text.decode_decimal),
        ERRORS,
        lambda: [b"0", b"7", b"1234567890"],
        ("transparency.text:decode_decimal",),
        from_text(str),
    ),
    Target(
        "base64",
        as_text(text.decode_base64),
        ERRORS,
        lambda: [text.encode_base64(data).encode() for data in (b"", b"a", b"ab", b"abc")],
        ("transparency.text:decode_base64",),
        from_text(text.encode_base64),
    ),
    Target(
        "merkle-proof",
        as_text(lambda lines: parse_hashes(lines.split("\n"))),
        ERRORS,
        lambda: ["\n".join(map(text.encode_base64, HASHES)).encode()],
        ("transparency.proof:parse_hashes",),
    ),
)
