"""Every decoder there is, by its name."""

from __future__ import annotations

from tests.fuzz import evidence_targets, log_targets, nvidia_targets, party_targets, wire_targets
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (wire_targets, log_targets, evidence_targets, nvidia_targets, party_targets)
    for target in module.TARGETS
}
