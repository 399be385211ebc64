"""`sottovoce verify policy`: what a policy demands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from attestation.verifier.policy import ClientPolicy
from attestation.verifier.unsafe_policy import AcceptEverythingUnsafe
from sottovoce.verify.output import Verified


def describe(policy: ClientPolicy, *, explain: bool) -> Verified:
    """Describe a policy: every value under its key in the file; if asked for, in plain words."""
    sentences = policy.explain() if explain else {}
    claims: dict[str, Any] = {
        "kind": "policy",
        "accepts_everything": isinstance(policy, AcceptEverythingUnsafe),
        **_plain(policy),
    }
    if explain:
        claims["explanation"] = {heading: list(lines) for heading, lines in sentences.items()}
    return Verified(claims, sentences=sentences)


def _plain(value: Any) -> Any:  # noqa: ANN401 - a policy's field, of any type they have
    if is_dataclass(value):
        return {f.name.replace("_", "-"): _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, frozenset):
        return sorted(str(item) for item in value)
    if isinstance(value, Mapping):
        return {name: _plain(value[name]) for name in sorted(value)}
    return value
