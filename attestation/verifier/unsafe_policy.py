"""The policy that accepts everything, under a name that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attestation.verifier.engine_policy import EnginePolicy
from attestation.verifier.nvidia.opaque import MultiGpuMode
from attestation.verifier.nvidia.policy import GpuPolicy
from attestation.verifier.nvidia.verify import UNKNOWN
from attestation.verifier.policy import WEAK_PLATFORMS, ClientPolicy, engine_weaknesses
from attestation.verifier.quote import Quote
from attestation.verifier.weakness import Weakness

FOREVER_S = 2**40
ARCHITECTURES = frozenset({"hopper", "blackwell"})
UNSAFE = "UNSAFE: the policy accepts everything, and nothing is demanded of a node"


def _any_gpu() -> GpuPolicy:
    return GpuPolicy(
        architectures=frozenset({*ARCHITECTURES, UNKNOWN}),
        minimum_driver={},
        multi_gpu_modes=frozenset(map(str, MultiGpuMode)),
        confidential_mode=False,
        no_devtools=False,
        rim=False,
        ocsp=False,
        max_ocsp_age_s=FOREVER_S,
    )


@dataclass(frozen=True)
class AcceptEverythingUnsafe(ClientPolicy):
    """The policy that demands nothing but authentic evidence: for experiments, never for a prompt.

    What a node lacks is still named, as its weaknesses. A policy file asks for it by the one line
    `accept-everything-unsafe = true`, and by nothing else.
    """

    accepted_weaknesses: frozenset[Weakness] = frozenset(Weakness)
    max_quote_age_s: int = FOREVER_S
    max_checkpoint_age_s: int = FOREVER_S
    notice_s: int = FOREVER_S
    gpu: GpuPolicy = field(default_factory=_any_gpu)

    def accept_platform(self, platform: str) -> frozenset[Weakness]:
        """Accept it."""
        return WEAK_PLATFORMS.get(platform, frozenset())

    def accept_quote(self, quote: Quote, *, at: int) -> str:  # noqa: ARG002 - nothing is asked
        """Accept it."""
        return UNSAFE

    def accept_engine(self, engine: EnginePolicy) -> frozenset[Weakness]:
        """Accept it."""
        return engine_weaknesses(engine)

    def explain(self) -> Mapping[str, tuple[str, ...]]:
        """Say that nothing is demanded."""
        return {"everything": (f"{UNSAFE}, but that its evidence is authentic and in the log.",)}
