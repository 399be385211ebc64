"""What a client accepts. Mechanism finds what a node is; this alone says whether that will do.

A weakness is something true of a node that the default policy does not accept. A policy that
accepts one names it, and so does every node accepted under it (`VerifiedNode.weaknesses`).

A policy is composed of small parts, one for each thing that can be demanded: the engine's rules
here, those of each kind of hardware beside its verifier. `attestation.verifier.policy_file` reads
the whole from TOML by the names of the fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from attestation.errors import Code, Refused
from attestation.simulated_quote import PLATFORM as SIMULATED
from attestation.verifier import explanation
from attestation.verifier.amd.policy import SnpPolicy
from attestation.verifier.engine_policy import UPSTREAM, EnginePolicy
from attestation.verifier.engine_rules import EngineRules
from attestation.verifier.intel.policy import TdxPolicy
from attestation.verifier.nvidia.policy import GpuPolicy
from attestation.verifier.quote import Quote
from attestation.verifier.tpm.policy import TpmPolicy
from attestation.verifier.weakness import WARNINGS, Weakness
from wire.key_document import MAX_VALIDITY_S

NOTICE_S = 3600
"""How long before its first use a key document is made and logged, at most."""

DAY_S = 86_400
REAL_PLATFORMS = frozenset({"tdx", "snp", "azure-vtpm"})
"""The platforms whose quotes prove that the host cannot read memory."""

WEAK_PLATFORMS: Mapping[str, frozenset[Weakness]] = MappingProxyType(
    {
        SIMULATED: frozenset({Weakness.SIMULATED}),
        "gce-vtpm": frozenset({Weakness.BOOT_ONLY}),
        "tpm": frozenset({Weakness.BOOT_ONLY}),
    }
)
"""The platforms that are accepted by their weakness alone: no policy lists them."""

_DIGEST = re.compile(r"(?:[0-9a-f]{2}){32,64}")


@dataclass(frozen=True)
class ClientPolicy:
    """What a relying party demands of a node. The default is the strict one.

    Attributes:
        accepted_weaknesses: the weaknesses it puts up with; none by default.
        platforms: the platforms whose quotes prove what runs.
        max_quote_age_s: how old a quote may be: it is made with its key document, so as old as a
            document lives and was announced.
        max_checkpoint_age_s: how old the witnesses' cosignatures under a node list may be.
        notice_s: how long before its not-before a key document is taken. Zero for a client; a log
            admits documents ahead of their use (`admission_policy`).
        releases: for each platform, the measurements (hex) that are accepted, beyond being in the
            log. Empty: every release in the log is.
        models: for each model's name, the digests (hex) that are accepted, likewise.
        engine: what is demanded of the engine policy.
        tdx: of a trust domain and its platform.
        snp: of an SNP report.
        gpu: of each GPU.
        tpm: of a TPM's quote.

    Raises:
        ValueError: (on construction) a weakness or a platform that does not exist, a platform that
            is accepted by its weakness alone, an age below zero, or a digest that is none.
    """

    accepted_weaknesses: frozenset[Weakness] = frozenset()
    platforms: frozenset[str] = REAL_PLATFORMS
    max_quote_age_s: int = MAX_VALIDITY_S + NOTICE_S
    max_checkpoint_age_s: int = DAY_S
    notice_s: int = 0
    releases: Mapping[str, frozenset[str]] = field(default_factory=dict)
    models: Mapping[str, frozenset[str]] = field(default_factory=dict)
    engine: EngineRules = field(default_factory=EngineRules)
    tdx: TdxPolicy = field(default_factory=TdxPolicy)
    snp: SnpPolicy = field(default_factory=SnpPolicy)
    gpu: GpuPolicy = field(default_factory=GpuPolicy)
    tpm: TpmPolicy = field(default_factory=TpmPolicy)

    def __post_init__(self) -> None:
        # Accepts the names as plain text too, as a configuration file has them; refuses others.
        names = frozenset(Weakness(name) for name in self.accepted_weaknesses)
        object.__setattr__(self, "accepted_weaknesses", names)
        for platform in sorted(self.platforms - REAL_PLATFORMS):
            weakness = ", ".join(WEAK_PLATFORMS.get(platform, ()))
            how = f"is accepted by naming the weakness {weakness}" if weakness else "does not exist"
            raise ValueError(f"the platform {platform} {how}")
        _check_digests(self.releases)
        _check_digests(self.models)
        if min(self.max_quote_age_s, self.max_checkpoint_age_s, self.notice_s) < 0:
            raise ValueError("an age is not below zero")

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

    def accept_quote(self, quote: Quote, *, at: int) -> str:
        """Accept a quote as its platform's part of the policy demands; return the reason.

        Raises:
            Refused: a weakness this policy does not name, or less than it demands.
        """
        for weakness in sorted(quote.weaknesses):
            self._accept(weakness, Code.QUOTE_WEAK)
        return quote.check_policy(self, at=at)

    def accept_engine(self, engine: EnginePolicy) -> frozenset[Weakness]:
        """Return the weaknesses of an engine policy, all of them accepted.

        Raises:
            Refused: it has a weakness this policy does not name, or it breaks a rule; that nothing
                one request leaves is kept for another, every policy demands.
        """
        self.engine.check(engine)
        weaknesses = engine_weaknesses(engine)
        for weakness in sorted(weaknesses):
            self._accept(weakness, Code(weakness.value))
        return weaknesses

    def accept_release(self, platform: str, measurement: bytes) -> None:
        """Accept a release that the log holds.

        Raises:
            Refused: this policy has a list of releases, and it is not on it.
        """
        if self.releases and measurement.hex() not in self.releases.get(platform, frozenset()):
            raise Refused(Code.RELEASE_NOT_ALLOWED, "a release that is not on the policy's list")

    def accept_model(self, name: str, digest: bytes) -> None:
        """Accept a model that the log holds.

        Raises:
            Refused: this policy has a list of models, and it is not on it.
        """
        if self.models and digest.hex() not in self.models.get(name, frozenset()):
            raise Refused(Code.MODEL_NOT_ALLOWED, "a model that is not on the policy's list")

    def _accept(self, weakness: Weakness, code: Code) -> None:
        if weakness not in self.accepted_weaknesses:
            raise Refused(code, f"{WARNINGS[weakness]}, and the policy does not accept that")

    def explain(self) -> Mapping[str, tuple[str, ...]]:
        """Return each demand as one plain sentence, under a heading for each part."""
        return {
            "node": (*explanation.of_platforms(self.platforms), *self._explain_ages()),
            "log": (
                *explanation.of_list("release", self.releases),
                *explanation.of_list("model", self.models),
            ),
            "engine": self.engine.explain(),
            "tdx": self.tdx.explain(),
            "snp": self.snp.explain(),
            "gpu": self.gpu.explain(),
            "tpm": self.tpm.explain(),
            "accepted weaknesses": explanation.of_weaknesses(self.accepted_weaknesses),
        }

    def _explain_ages(self) -> tuple[str, ...]:
        duration = explanation.duration
        return (
            f"The quote is at most {duration(self.max_quote_age_s)} old.",
            f"The witnesses saw the node list at most {duration(self.max_checkpoint_age_s)} ago.",
            f"Its keys are used at most {duration(self.notice_s)} before they are valid.",
        )


def engine_weaknesses(engine: EnginePolicy) -> frozenset[Weakness]:
    """Return what is weak about an engine, by what its policy says."""
    found = {
        Weakness.COMPUTE_UNVERIFIED: engine.verification == "none",
        Weakness.TRANSFERS_PLAIN: engine.transfers == "plain",
        Weakness.MEMORY_NOT_ERASED: engine.erasure == UPSTREAM,
    }
    return frozenset(weakness for weakness, true in found.items() if true)


def admission_policy(accepted_weaknesses: frozenset[Weakness] = frozenset()) -> ClientPolicy:
    """Return the policy under which a log admits key documents: the default, ahead of their use."""
    return ClientPolicy(accepted_weaknesses, notice_s=NOTICE_S)


def _check_digests(lists: Mapping[str, frozenset[str]]) -> None:
    for digest in (digest for digests in lists.values() for digest in digests):
        if not _DIGEST.fullmatch(digest):
            raise ValueError("a measurement or digest is 64 to 128 lower-case hex digits")
