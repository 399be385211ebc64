"""The engine policy as a verifier reads it: canonical JSON, logged, its digest in the key document.

    {"version": 1, "verification": "none|audit|full|ship", "transfers": "none|sealed|cc|plain",
     "prefix_cache": text, "device": text, "erasure": "engine|upstream" (optional),
     "optimisations": {name: {"state": "on|refused|declared|off", "form": text, ...}, ...}, ...}

Further members are the engine's own: the digest covers them, the log shows them, and nothing here
depends on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from attestation.errors import MalformedEvidence
from wire import canonical_json
from wire.errors import Malformed
from wire.receipt import TRANSFER_MODES, VERIFICATION_MODES

VERSION = 1
STATES = ("on", "refused", "declared", "off")
ERASURES = ("engine", "upstream")
UPSTREAM = ERASURES[1]
"""Another engine computes: what it keeps after a request is not this engine's to erase."""
WITHIN_ONE_REQUEST = "request"
"""The one form of prefix cache that keeps nothing between two requests."""

VERIFICATION_AT_LEAST: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "none": frozenset(VERIFICATION_MODES),
        "audit": frozenset({"audit", "full", "ship"}),
        # Both look at every row, by different means: neither stands in for the other.
        "full": frozenset({"full"}),
        "ship": frozenset({"ship"}),
    }
)
"""For each verification mode a node promises, the modes of a receipt that keep the promise."""

TRANSFERS_AT_LEAST: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "plain": frozenset(TRANSFER_MODES),
        "cc": frozenset({"cc", "sealed", "none"}),
        "sealed": frozenset({"sealed", "none"}),
        "none": frozenset({"none"}),
    }
)
"""For each transfer mode a node promises, the modes of a receipt that keep the promise."""


@dataclass(frozen=True)
class EnginePolicy:
    """What an engine promises of itself.

    Attributes:
        digest: SHA-256 of the policy's text, 32 bytes.
        verification: how the accelerator's work is verified.
        transfers: how data travels to the accelerator; `none` if it stays on the trusted side.
        prefix_cache: what a prefix cache may span.
        device: the kind of device that computes.
        erasure: who answers for the memory that a request was computed in.
        optimisations: the state of each serving optimisation.
    """

    digest: bytes
    verification: str
    transfers: str
    prefix_cache: str
    device: str
    optimisations: Mapping[str, str]
    erasure: str = ERASURES[0]

    @classmethod
    def decode(cls, data: bytes) -> EnginePolicy:
        """Decode an engine policy from its canonical form.

        Raises:
            MalformedEvidence: not canonical JSON, another version, a member missing or of a value
                that is not known.
        """
        members = _decode_members(data)
        if type(members.get("version")) is not int or members["version"] != VERSION:
            raise MalformedEvidence("engine policy: another version")
        return cls(
            digest=hashlib.sha256(data).digest(),
            verification=_one_of(members, "verification", VERIFICATION_MODES),
            transfers=_one_of(members, "transfers", TRANSFER_MODES),
            prefix_cache=_text(members, "prefix_cache"),
            device=_text(members, "device"),
            optimisations=_states(members.get("optimisations")),
            erasure=_one_of({"erasure": ERASURES[0], **members}, "erasure", ERASURES),
        )


def _decode_members(data: bytes) -> dict[str, Any]:
    try:
        members = canonical_json.decode(data)
        if not isinstance(members, dict) or canonical_json.encode(members) != data:
            raise MalformedEvidence("engine policy: not an object in canonical JSON")
    except Malformed as error:
        raise MalformedEvidence("engine policy: not JSON") from error
    return members


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise MalformedEvidence(f"engine policy: {name} is missing or not text")
    return value


def _one_of(members: Mapping[str, Any], name: str, values: tuple[str, ...]) -> str:
    value = _text(members, name)
    if value not in values:
        raise MalformedEvidence(f"engine policy: {name} has no known value")
    return value


def _states(optimisations: Any) -> Mapping[str, str]:  # noqa: ANN401 - straight from JSON
    if not isinstance(optimisations, dict):
        raise MalformedEvidence("engine policy: the optimisations are not an object")
    states = {}
    for name, row in optimisations.items():
        if not isinstance(row, dict):
            raise MalformedEvidence("engine policy: an optimisation is not an object")
        _text(row, "form")
        states[name] = _one_of(row, "state", STATES)
    return MappingProxyType(states)
