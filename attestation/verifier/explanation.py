"""What a policy demands, in plain sentences for a person."""

from __future__ import annotations

from collections.abc import Mapping

from attestation.verifier.weakness import WARNINGS, Weakness

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


def of_platforms(platforms: frozenset[str]) -> tuple[str, ...]:
    """Return what is demanded of a quote, whatever its platform."""
    names = " or ".join(sorted(platforms)) or "no platform"
    return (
        f"Its evidence is a quote of {names}, leading to a root pinned for that platform.",
        "The quote binds its keys, and one report for each GPU that it states.",
    )


def of_list(what: str, accepted: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """Return what is demanded of a release or a model."""
    if not accepted:
        return (f"Its {what} is in the log; every {what} in the log is accepted.",)
    counts = ", ".join(f"{len(digests)} of {name}" for name, digests in sorted(accepted.items()))
    return (f"Its {what} is in the log, and on the policy's own list: {counts}.",)


def of_weaknesses(accepted: frozenset[Weakness]) -> tuple[str, ...]:
    """Return what may be true of a node all the same."""
    if not accepted:
        return ("None: a node that is weak in any of the named ways is refused.",)
    return tuple(
        f"A node may be {weakness}: {WARNINGS[weakness]}." for weakness in sorted(accepted)
    )


def duration(seconds: int) -> str:
    """Return a time span in its largest whole unit."""
    for unit, length in _UNITS:
        if seconds and seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
