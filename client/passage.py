"""What can be said of the way of one request, without a word of what was asked or answered.

It is written down while the request travels, for the person whose request it is: which node was
drawn from how many, what the relay held in its hands, what the node signed, and what was checked.
Sizes, names and hashes under salts that are not kept: none of it leads back to a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from attestation.verdict import Verdict
from attestation.verifier.node import VerifiedNode
from wire import receipt
from wire.errors import WireError

SHOWN = 48
"""Bytes of an encapsulated request that are kept to be shown: its header and the first of `enc`."""


@dataclass
class Draw:
    """One choice of a node."""

    node: VerifiedNode
    out_of: int
    """Verified nodes that serve the model."""
    listed: int
    """All that the log listed in this epoch, those of other models and the refused with them."""
    share: float
    """The chance that this node had."""
    kept: bool
    """Not drawn: a request to it ended in clear, so it is asked again."""

    def to_json(self) -> dict[str, Any]:
        """Return the members of the JSON form."""
        document = self.node.key_document
        return {
            "node": document.node,
            "model": document.model,
            "platform": self.node.platform,
            "weaknesses": sorted(self.node.weaknesses),
            "out_of": self.out_of,
            "listed": self.listed,
            "share": round(self.share, 4),
            "kept": self.kept,
        }


@dataclass
class Carriage:
    """One encapsulated request and its response, as the relay carries them: bytes, nothing else."""

    node: str
    sent: int
    """Bytes of the encapsulated request."""
    beginning: bytes
    """Its first bytes, `SHOWN` at most."""
    received: int = 0
    """Bytes of the encapsulated response so far."""
    pieces: int = 0
    """In so many pieces did they arrive: the rhythm of a stream is not hidden from the relay."""

    def to_json(self) -> dict[str, Any]:
        """Return the members of the JSON form."""
        return {
            "path": f"/{self.node}",
            "sent": self.sent,
            "beginning": self.beginning.hex(),
            "received": self.received,
            "pieces": self.pieces,
        }


@dataclass
class Passage:
    """Everything that is known of one request's way; it grows while the request is under way."""

    draws: list[Draw] = field(default_factory=list)
    carried: list[Carriage] = field(default_factory=list)
    tokens: int = 0
    """Blind tokens that were shown in the last try."""
    signed: bytes = b""
    """The receipt, once it held."""
    verdict: Verdict | None = None

    def carry(self, node: str, encapsulated_request: bytes) -> Carriage:
        """Note that a request goes to the relay; return what its response is counted in."""
        size, beginning = len(encapsulated_request), bytes(encapsulated_request[:SHOWN])
        self.carried.append(Carriage(node, size, beginning))
        return self.carried[-1]

    def judge(self, verdict: Verdict) -> None:
        """Note what was checked, and how it ended."""
        self.verdict = verdict

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `outcome` is null until there is a verdict."""
        judged: dict[str, Any] = {"outcome": None, "steps": []}
        return {
            **(judged if self.verdict is None else self.verdict.to_json()),
            "draws": [draw.to_json() for draw in self.draws],
            "relay": [carriage.to_json() for carriage in self.carried],
            "tokens": self.tokens,
            "receipt": self._receipt(),
        }

    def _receipt(self) -> dict[str, Any] | None:
        if not (self.signed and self.draws):
            return None
        try:
            claims = receipt.verify(self.signed, self.draws[-1].node.key_document.receipt_key)
        except WireError:
            return None  # it did not hold; the verdict says why
        done, moved = claims.verification, claims.transfers
        return {
            "issued_at": datetime.fromtimestamp(claims.issued_at, UTC).isoformat(),
            "key_document": claims.key_document.hex(),
            "request_hash": claims.request_hash.hex(),
            "response_hash": claims.response_hash.hex(),
            "model_digest": claims.model_digest.hex(),
            "prompt_tokens": claims.prompt_tokens,
            "completion_tokens": claims.completion_tokens,
            "verification": {
                "mode": done.mode,
                "checks": done.checks,
                "decisions": done.decisions.hex(),
            },
            "transfers": {
                "mode": moved.mode,
                "sent": moved.sent,
                "hits": moved.hits,
                "misses": moved.misses,
            },
        }
