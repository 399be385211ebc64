"""What the commands of `sottovoce verify` are given: files of a bounded size, times, roots."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from attestation.verifier.policy import ClientPolicy
from client.errors import TrustFileError
from client.trust import Trust, load_policy, load_trust

MAX_EVIDENCE = 4 << 20
"""A quote, a report, a chain or their collateral: real ones have at most some tens of KiB."""

MAX_COMPLETION = 64 << 20
"""A request or a response, and a nodes document."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class Unusable(Exception):
    """Arguments from which nothing can be judged: the command ends with 2."""


def read_file(path: Path, at_most: int = MAX_EVIDENCE) -> bytes:
    """Read a file, if it is not larger than can be meant.

    Raises:
        Unusable: it cannot be read, or is larger. The size is looked at before anything is read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # A pipe has no size beforehand.
            data = b"" if size > at_most else file.read(at_most + 1)
    except OSError as error:
        raise Unusable(f"cannot read {path}: {error.strerror}") from None
    if max(size, len(data)) > at_most:
        raise Unusable(f"{path} is larger than {at_most} bytes, more than this can be")
    return data


def read_policy(path: Path | None) -> ClientPolicy | None:
    """Read a policy file; None if none is named.

    Raises:
        Unusable: it cannot be read, or is no policy.
    """
    if path is None:
        return None
    try:
        return load_policy(path)
    except TrustFileError as error:
        raise Unusable(str(error)) from None


def read_trust(path: Path) -> Trust:
    """Read `trust.toml`.

    Raises:
        Unusable: it cannot be read, or is not one.
    """
    read_file(path)
    try:
        return load_trust(path)
    except TrustFileError as error:
        raise Unusable(str(error)) from None


def parse_time(text: str) -> int:
    """Return the unix seconds of an RFC 3339 time.

    Raises:
        Unusable: not one, or before 1970.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise Unusable(f"{text!r} is not an RFC 3339 time such as 2026-01-31T12:00:00Z")
    day, time, _, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{zone.upper().replace('Z', '+00:00')}")
        seconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    except (ValueError, OverflowError):
        raise Unusable(f"{text!r} is no time that exists") from None
    if seconds < 0:
        raise Unusable(f"{text!r} is before 1970")
    return seconds


def parse_roots(texts: Sequence[str]) -> frozenset[bytes]:
    """Return the fingerprints of roots, each SHA-256 in hex; colons between the bytes are allowed.

    Raises:
        Unusable: not 32 bytes in hex.
    """
    try:
        roots = frozenset(bytes.fromhex(text.replace(":", "")) for text in texts)
    except ValueError:
        raise Unusable("--root is a SHA-256 fingerprint in hex") from None
    if any(len(root) != 32 for root in roots):
        raise Unusable("--root is a SHA-256 fingerprint: 64 hex digits")
    return roots
