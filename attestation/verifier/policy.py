"""What a client accepts. Mechanism finds what a node is; this alone says whether that will do.

A weakness is something true of a node that the default policy does not accept. A policy that
accepts one names it, and so does every node accepted under it (`VerifiedNode.weaknesses`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from attestation.errors import Code, Refused
from attestation.simulated_quote import PLATFORM as SIMULATED
from attestation.verifier.engine_policy import WITHIN_ONE_REQUEST, EnginePolicy
from attestation.verifier.weakness import WARNINGS, Weakness
from wire.key_document import MAX_VALIDITY_S

NOTICE_S = 3600
"""How long before its first use a key document is made and logged, at most."""

WEAK_PLATFORMS: Mapping[str, frozenset[Weakness]] = MappingProxyType(
    {
        SIMULATED: frozenset({Weakness.SIMULATED}),
        "gce-vtpm": frozenset({Weakness.BOOT_ONLY}),
        "tpm": frozenset({Weakness.BOOT_ONLY}),
    }
)
"""The platforms that are accepted by their weakness alone, however a policy lists them."""


@dataclass(frozen=True)
class ClientPolicy:
    """What a relying party demands of a node. The default is the strict one.

    Attributes:
        accepted_weaknesses: the weaknesses it puts up with; none by default.
        platforms: the platforms whose quotes prove what runs.
        max_quote_age_s: how old a quote may be: it is made with its key document, so as old as a
            document lives and was announced.
        notice_s: how long before its not-before a key document is taken. Zero for a client; a log
            admits documents ahead of their use (`admission_policy`).

    Raises:
        ValueError: (on construction) a weakness that does not exist.
    """

    accepted_weaknesses: frozenset[Weakness] = frozenset()
    platforms: frozenset[str] = frozenset({"tdx", "snp", "azure-vtpm"})
    max_quote_age_s: int = MAX_VALIDITY_S + NOTICE_S
    notice_s: int = 0

    def __post_init__(self) -> None:
        # Accepts the names as plain text too, as a configuration file has them; refuses others.
        names = frozenset(Weakness(name) for name in self.accepted_weaknesses)
        object.__setattr__(self, "accepted_weaknesses", names)

    def accept_platform(self, platform: str) -> frozenset[Weakness]:
        """Return the weaknesses of a platform, all of them accepted.

        Raises:
            Refused: the policy does not accept quotes of this platform.
        """
        weaknesses = WEAK_PLATFORMS.get(platform, frozenset())
        if not weaknesses and platform in self.platforms:
            return weaknesses
        if weaknesses and weaknesses <= self.accepted_weaknesses:
            return weaknesses
        raise Refused(Code.PLATFORM_REFUSED, f"the policy does not accept {platform} quotes")

    def accept_weaknesses(self, weaknesses: frozenset[Weakness]) -> None:
        """Accept what is true of a quote, whatever its platform is called.

        Raises:
            Refused: a weakness this policy does not name.
        """
        for weakness in sorted(weaknesses):
            self._accept(weakness, Code.QUOTE_WEAK)

    def accept_engine(self, engine: EnginePolicy) -> frozenset[Weakness]:
        """Return the weaknesses of an engine policy, all of them accepted.

        Raises:
            Refused: it has a weakness this policy does not name, or it keeps what one request left
                for another, which no policy accepts.
        """
        if engine.prefix_cache != WITHIN_ONE_REQUEST:
            raise Refused(Code.CACHE_ACROSS_REQUESTS, "the prefix cache spans requests")
        weaknesses = set()
        if engine.verification == "none":
            weaknesses.add(self._accept(Weakness.COMPUTE_UNVERIFIED, Code.COMPUTE_UNVERIFIED))
        if engine.transfers == "plain":
            weaknesses.add(self._accept(Weakness.TRANSFERS_PLAIN, Code.TRANSFERS_PLAIN))
        return frozenset(weaknesses)

    def _accept(self, weakness: Weakness, code: Code) -> Weakness:
        if weakness not in self.accepted_weaknesses:
            raise Refused(code, f"{WARNINGS[weakness]}, and the policy does not accept that")
        return weakness


def admission_policy(accepted_weaknesses: frozenset[Weakness] = frozenset()) -> ClientPolicy:
    """Return the policy under which a log admits key documents: the default, ahead of their use."""
    return ClientPolicy(accepted_weaknesses, notice_s=NOTICE_S)
