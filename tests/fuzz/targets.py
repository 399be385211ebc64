"""Every decoder there is, by its name."""

from __future__ import annotations

from tests.fuzz import (
    amd_targets,
    engine_targets,
    evidence_targets,
    intel_targets,
    log_targets,
    nvidia_targets,
    party_targets,
    tpm_targets,
    wire_targets,
)
from tests.fuzz.target import Target

_MODULES = (
    amd_targets,
    engine_targets,
    evidence_targets,
    intel_targets,
    log_targets,
    nvidia_targets,
    party_targets,
    tpm_targets,
    wire_targets,
)

TARGETS: dict[str, Target] = {
    target.name: target for module in _MODULES for target in module.TARGETS
}
