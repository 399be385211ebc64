"""Weaknesses: what may be true of a node that the default policy does not accept, by name."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Weakness(StrEnum):
    """What a policy may accept beyond the default, by name."""

    SIMULATED = "simulated"
    BOOT_ONLY = "boot-only"
    COMPUTE_UNVERIFIED = "compute-unverified"
    TRANSFERS_PLAIN = "transfers-plain"
    MEMORY_NOT_ERASED = "memory-not-erased"


WARNINGS: Mapping[Weakness, str] = MappingProxyType(
    {
        Weakness.SIMULATED: "SIMULATED: proves nothing about hardware",
        Weakness.BOOT_ONLY: "boot-only: host can read memory",
        Weakness.COMPUTE_UNVERIFIED: "the accelerator's work is not verified",
        Weakness.TRANSFERS_PLAIN: "data travels to the accelerator unencrypted",
        Weakness.MEMORY_NOT_ERASED: "another engine computes, and keeps what it keeps",
    }
)
"""What each weakness means, for every surface that shows a node."""
