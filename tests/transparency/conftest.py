"""A log that can be made to lie: fixed keys, any tree, any note, any document."""

import hashlib
from dataclasses import dataclass, field, replace

import pytest

from transparency import note, signing
from transparency.checkpoint import Checkpoint
from transparency.leaf import (
    IssuerKeyLeaf,
    KeyRotationLeaf,
    Leaf,
    ListedNode,
    ModelLeaf,
    NodeLeaf,
    NodeListLeaf,
    PolicyLeaf,
    ReleaseLeaf,
    Role,
    RoleKeys,
    sign_leaf,
)
from transparency.merkle import Tree
from transparency.nodes_document import (
    ConsistencyProof,
    NodesDocument,
    ProvenLeaf,
    verify_nodes_document,
)
from transparency.note import KeyType, Note, Signer
from transparency.policy import LogPolicy
from transparency.statements import statements_digest
from wire.merkle import leaf_hash

EPOCH_SECONDS = 600
EPOCH = 3_000_000
START = EPOCH * EPOCH_SECONDS
AT = START + 100


def seed(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def key(name: str):
    return signing.private_key(seed(name))


def public(name: str) -> bytes:
    return signing.public_bytes(key(name))


LOG = Signer.from_seed("log.example.simulated", KeyType.ED25519, seed("log"))
WITNESSES = tuple(
    Signer.from_seed(f"witness.example/w{i}", KeyType.COSIGNATURE, seed(f"witness {i}"))
    for i in range(3)
)
ROLES = RoleKeys(public("release"), public("issuer"), public("list"))
POLICY = LogPolicy(str(LOG.verifier_key), tuple(str(w.verifier_key) for w in WITNESSES), 2, 86400)


@dataclass
class FakeLog:
    """Entries in memory, and notes and documents over them, true or not."""

    entries: list = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    bundles: dict = field(default_factory=dict)
    earlier: list = field(default_factory=list)

    def add(self, body, signer: str) -> int:
        return self.add_leaf(sign_leaf(body, key(signer)))

    def add_rotation(self, role: Role, old: str, new: str) -> int:
        return self.add(KeyRotationLeaf.make(role, public(old), key(new)), old)

    def add_leaf(self, leaf: Leaf) -> int:
        self.entries.append(leaf.encode())
        self.tree.append(leaf_hash(self.entries[-1]))
        return len(self.entries) - 1

    def add_node(self, name: str, not_after: int = START + 7200, bundle: bytes | None = None):
        bundle = f"bundle of {name}".encode() if bundle is None else bundle
        digest = seed(name)
        self.bundles[digest.hex()] = bundle
        body = NodeLeaf(digest, hashlib.sha256(bundle).digest(), not_after)
        self.add(body, f"receipt {name}")
        return ListedNode(digest, "tinychat", 1)

    def add_statements(self):
        self.add(ReleaseLeaf("0.1.0", {"simulated": seed("measurement")}), "release")
        self.add(ModelLeaf("tinychat", seed("model")), "release")
        policy = b'{"version":1}'
        self.add(PolicyLeaf(hashlib.sha256(policy).digest(), policy), "release")
        self.add(
            IssuerKeyLeaf("issuer.example", b"spki", b"challenge", START, START + 86400), "issuer"
        )

    def add_list(self, *rows: ListedNode, epoch: int = EPOCH, signer: str = "list") -> int:
        return self.add(self.list_body(*rows, epoch=epoch), signer)

    def list_body(self, *rows: ListedNode, epoch: int = EPOCH) -> NodeListLeaf:
        start = epoch * EPOCH_SECONDS
        return NodeListLeaf(
            epoch, start, start + EPOCH_SECONDS, tuple(sorted(rows)), self.statements()
        )

    def statements(self) -> bytes:
        kinds = ("node", "node-list")
        entries = [entry for entry in self.entries if Leaf.decode(entry).type not in kinds]
        return statements_digest(leaf_hash(entry) for entry in entries)

    def note(
        self, at: int = START - 10, *, size: int | None = None, witnesses=WITNESSES[:2], log=LOG
    ) -> bytes:
        size = len(self.entries) if size is None else size
        text = Checkpoint(log.name, size, self.tree.root(size)).encode()
        lines = (note.sign(text, log), *(note.cosign(text, w, at) for w in witnesses))
        return Note(text, lines).encode()

    def proven(self, index: int) -> ProvenLeaf:
        proof = self.tree.inclusion_proof(index, len(self.entries))
        return ProvenLeaf(index, self.entries[index], proof)

    def document(self, list_index: int, **changes) -> NodesDocument:
        others = [i for i in range(len(self.entries)) if i not in self.list_indexes()]
        document = NodesDocument(
            checkpoint=self.note(),
            node_list=self.proven(list_index),
            leaves=tuple(self.proven(i) for i in others),
            bundles=dict(self.bundles),
            consistency=tuple(
                ConsistencyProof(size, self.tree.consistency_proof(size, len(self.entries)))
                for size in self.earlier
            ),
        )
        return replace(document, **changes)

    def list_indexes(self):
        leaves = [Leaf.decode(entry) for entry in self.entries]
        return {i for i, leaf in enumerate(leaves) if leaf.type == "node-list"}


@dataclass(frozen=True)
class World:
    """What every test of this folder knows."""

    policy: LogPolicy = POLICY
    roles: RoleKeys = ROLES
    log: Signer = LOG
    witnesses: tuple = WITNESSES
    epoch_seconds: int = EPOCH_SECONDS
    epoch: int = EPOCH
    start: int = START
    at: int = AT

    def seed(self, name):
        return seed(name)

    def key(self, name):
        return key(name)

    def public(self, name):
        return public(name)

    def fake_log(self) -> FakeLog:
        return FakeLog()

    def fleet(self) -> tuple[FakeLog, int]:
        """A log with every kind of leaf, two nodes, and the list of the present epoch."""
        log = FakeLog()
        log.add_statements()
        rows = [log.add_node("one"), log.add_node("two")]
        return log, log.add_list(*rows)

    def verify(self, document, last=None, at=AT, **kwargs):
        data = document if isinstance(document, bytes) else document.encode()
        return verify_nodes_document(
            data,
            policy=kwargs.pop("policy", POLICY),
            roles=kwargs.pop("roles", ROLES),
            epoch_seconds=EPOCH_SECONDS,
            at=at,
            last=last,
            **kwargs,
        )


@pytest.fixture(scope="session")
def world() -> World:
    return World()
