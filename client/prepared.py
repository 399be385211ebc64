"""Encapsulations made ahead: for a request only the sealing is left.

Each has a fresh ephemeral key and is used for one request; what is prepared for a node that is no
longer listed is thrown away. Which node a request goes to is drawn before anybody looks here.
"""

from __future__ import annotations

from collections.abc import Iterable

from attestation.verifier.node import VerifiedNode
from wire.hpke import Aead, Kem
from wire.ohttp import PreparedRequest

AEAD = Aead.AES_128_GCM
"""Key id and AEAD id are visible to the relay: every client uses the same, or they tell users
apart."""

EACH = 2
"""Kept ready for each node."""

MAX_NODES = 64
"""Nodes that something is kept ready for. With more, one request in many meets the same again."""


def prepare(node: VerifiedNode) -> PreparedRequest:
    """Encapsulate to the X-Wing key of `node`."""
    config = next(c for c in node.key_document.key_configs if c.kem is Kem.XWING)
    return PreparedRequest(config, aead=AEAD)


class PreparedStock:
    """Encapsulations to the nodes of the current list."""

    def __init__(self) -> None:
        self._ready: dict[str, list[PreparedRequest]] = {}

    def take(self, node: VerifiedNode) -> PreparedRequest:
        """Return one for `node`, made now if none is ready."""
        ready = self._ready.get(node.key_document.node)
        return ready.pop() if ready else prepare(node)

    def fill(self, nodes: Iterable[VerifiedNode]) -> bool:
        """Make one for a node that has too few; return whether there was such a node."""
        chosen = {node.key_document.node: node for node in list(nodes)[:MAX_NODES]}
        self._ready = {name: self._ready.get(name, []) for name in chosen}
        for name, node in chosen.items():
            if len(self._ready[name]) < EACH:
                self._ready[name].append(prepare(node))
                return True
        return False
