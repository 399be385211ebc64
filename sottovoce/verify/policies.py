"""`sottovoce verify policy`: what a policy demands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from attestation.verifier.policy import ClientPolicy


def to_json(policy: ClientPolicy) -> dict[str, Any]:
    """Return every value of a policy under its key in the file, and the sentences beside them."""
    return {
        "kind": "policy",
        "name": "accept-everything-unsafe" if type(policy) is not ClientPolicy else "client-policy",
        "policy": _plain(policy),
        "explanation": {name: list(lines) for name, lines in policy.explain().items()},
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - a policy's field, of any type they have
    if is_dataclass(value):
        return {f.name.replace("_", "-"): _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, frozenset):
        return sorted(str(item) for item in value)
    if isinstance(value, Mapping):
        return {name: _plain(value[name]) for name in sorted(value)}
    return value
