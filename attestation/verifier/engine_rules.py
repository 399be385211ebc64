"""What a client demands of the engine: how it computes, moves and keeps what it computes on."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType

from attestation.errors import Code, Refused
from attestation.verifier.engine_policy import (
    TRANSFERS_AT_LEAST,
    UPSTREAM,
    VERIFICATION_AT_LEAST,
    WITHIN_ONE_REQUEST,
    EnginePolicy,
)

NO_CACHE = "none"
_PREFIX_CACHES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        NO_CACHE: frozenset({NO_CACHE}),
        WITHIN_ONE_REQUEST: frozenset({NO_CACHE, WITHIN_ONE_REQUEST}),
    }
)
_OFFLOADS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "none": frozenset({"kv_offload_host", "kv_offload_disk"}),
        "host": frozenset({"kv_offload_disk"}),
        "disk": frozenset(),
    }
)
"""For the farthest place that KV blocks may go, sealed, the optimisations that go farther."""

ACROSS_REQUESTS_OR_NODES = frozenset(
    {
        "prompt_snippet_cache",
        "kv_duplication",
        "kv_pulling",
        "kv_migration",
        "priority",
        "request_level_prediction",
        "content_aware_routing",
        "instance_flip",
        "cross_region_placement",
        "machine_level_scheduler",
        "global_profiling",
    }
)
"""Optimisations that remember, move or tell apart requests: used in no form by default."""

_USED = frozenset({"on", "declared"})


@dataclass(frozen=True)
class EngineRules:
    """What is demanded of an engine policy.

    No verification at all, plain transfers and memory that another engine keeps are weaknesses
    (`attestation.verifier.weakness`): a policy accepts those by name, whatever these rules say.

    Attributes:
        verification: the least verification of the accelerator's work: `audit`, `full` or `ship`.
        transfers: the least protection on the way to the accelerator: `cc` (its own confidential
            mode), `sealed` (by the engine), or `none` (nothing leaves the trusted side).
        prefix_cache: the widest prefix cache: `request`, or `none`. None wider is accepted.
        offload: the farthest that KV blocks may go, sealed: `none`, `host` or `disk`.
        refused_optimisations: those that may be used in no form.

    Raises:
        ValueError: (on construction) a value that is not one of those.
    """

    verification: str = "audit"
    transfers: str = "cc"
    prefix_cache: str = WITHIN_ONE_REQUEST
    offload: str = "host"
    refused_optimisations: frozenset[str] = ACROSS_REQUESTS_OR_NODES

    def __post_init__(self) -> None:
        _check_value("verification", self.verification, VERIFICATION_AT_LEAST.keys() - {"none"})
        _check_value("transfers", self.transfers, TRANSFERS_AT_LEAST.keys() - {"plain"})
        _check_value("prefix-cache", self.prefix_cache, _PREFIX_CACHES.keys())
        _check_value("offload", self.offload, _OFFLOADS.keys())

    def check(self, engine: EnginePolicy) -> None:
        """Check an engine policy, but for what is a weakness.

        Raises:
            Refused: it promises less than is demanded, or keeps what one request left for another.
        """
        caches = _PREFIX_CACHES[self.prefix_cache]
        if engine.erasure == UPSTREAM:
            caches |= {UPSTREAM}  # part of the weakness: what is kept is not known
        if engine.prefix_cache not in caches:
            raise Refused(Code.CACHE_ACROSS_REQUESTS, "the prefix cache spans too much")
        if engine.verification not in VERIFICATION_AT_LEAST[self.verification] | {"none"}:
            reason = f"verification {engine.verification}, {self.verification} is demanded"
            raise Refused(Code.ENGINE_VERIFICATION_TOO_WEAK, reason)
        if engine.transfers not in TRANSFERS_AT_LEAST[self.transfers] | {"plain"}:
            reason = f"transfers {engine.transfers}, {self.transfers} is demanded"
            raise Refused(Code.ENGINE_TRANSFERS_TOO_WEAK, reason)
        used = {name for name, state in engine.optimisations.items() if state in _USED}
        if used & _OFFLOADS[self.offload]:
            reason = f"KV blocks go farther than {self.offload}"
            raise Refused(Code.ENGINE_OFFLOAD_TOO_FAR, reason)
        if refused := used & self.refused_optimisations:
            reason = f"it uses {', '.join(sorted(refused))}"
            raise Refused(Code.ENGINE_OPTIMISATION_REFUSED, reason)

    def explain(self) -> tuple[str, ...]:
        """Return each demand as one plain sentence."""
        verification = " or ".join(sorted(VERIFICATION_AT_LEAST[self.verification] - {"none"}))
        transfers = " or ".join(sorted(TRANSFERS_AT_LEAST[self.transfers]))
        refused = ", ".join(sorted(self.refused_optimisations)) or "nothing is ruled out"
        return (
            f"The accelerator's work is verified, by {verification}.",
            f"Data travels to the accelerator protected ({transfers}).",
            _CACHE_SENTENCES[self.prefix_cache],
            _OFFLOAD_SENTENCES[self.offload],
            f"Never used: {refused}.",
        )


_CACHE_SENTENCES = {
    NO_CACHE: "There is no prefix cache at all.",
    WITHIN_ONE_REQUEST: "A prefix cache keeps nothing from one request to another.",
}
_OFFLOAD_SENTENCES = {
    "none": "KV blocks stay on the accelerator.",
    "host": "KV blocks may be offloaded to host memory, sealed, and not to disk.",
    "disk": "KV blocks may be offloaded to host memory and to disk, sealed.",
}


def _check_value(name: str, value: str, values: AbstractSet[str]) -> None:
    if value not in values:
        raise ValueError(f"{name} is one of {', '.join(sorted(values))}")
