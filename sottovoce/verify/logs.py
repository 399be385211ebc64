"""`sottovoce verify log`: a checkpoint, a leaf's place under it, and what came before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from attestation.verdict import Outcome, Step
from client.trust import Trust
from sottovoce.verify.output import Failure, Verified
from transparency.checkpoint import Checkpoint
from transparency.errors import Malformed, TransparencyError
from transparency.merkle import verify_consistency, verify_inclusion
from transparency.note import Note
from transparency.policy import verify_log_signature
from transparency.proof import LogProof, parse_hashes
from wire.merkle import leaf_hash

T = TypeVar("T")


@dataclass(frozen=True)
class LogFiles:
    """What is to be judged of a log.

    Attributes:
        checkpoint: a cosigned note, or a log proof (c2sp.org/tlog-proof), which holds one.
        leaf: a leaf that the proof is about; None: none is.
        older: a checkpoint seen before, a note; None: none was.
        consistency: the proof from it, a base64 hash a line.
    """

    checkpoint: bytes
    leaf: bytes | None = None
    older: bytes | None = None
    consistency: bytes = b""


def verify_log(files: LogFiles, *, trust: Trust, at: int) -> Verified:
    """Judge a checkpoint by the trust file, then a leaf and an older checkpoint if given.

    Raises:
        Failure: a step did not hold.
    """
    steps: list[Step] = []
    proof = _step(steps, "log-format", lambda: _parse(files.checkpoint))
    note = files.checkpoint if proof is None else proof.checkpoint
    checkpoint = _step(steps, "log-checkpoint", lambda: trust.log_policy.verify(note, at))
    if files.leaf is None:
        steps.append(Step("log-inclusion", Outcome.SKIP, "no leaf was given"))
    else:
        leaf = files.leaf
        _step(steps, "log-inclusion", lambda: _check_inclusion(leaf, proof, checkpoint))
    if files.older is None:
        steps.append(Step("log-consistency", Outcome.SKIP, "no older checkpoint was given"))
    else:
        older = files.older
        hashes = files.consistency
        _step(steps, "log-consistency", lambda: _check_older(older, hashes, trust, checkpoint))
    return Verified(_claims(checkpoint, proof, trust), tuple(steps))


def _parse(data: bytes) -> LogProof | None:
    """Return the log proof that the file is, or None if it is a note."""
    if not data.startswith(b"c2sp.org/tlog-proof"):
        Note.parse(data)
        return None
    try:
        return LogProof.parse(data.decode())
    except UnicodeDecodeError:
        raise Malformed("a log proof that is not UTF-8") from None


def _check_inclusion(leaf: bytes, proof: LogProof | None, checkpoint: Checkpoint) -> None:
    if proof is None:
        raise Malformed("a checkpoint alone proves no leaf: give a log proof in its place")
    verify_inclusion(leaf_hash(leaf), proof.index, checkpoint.size, proof.hashes, checkpoint.root)


def _check_older(note: bytes, hashes: bytes, trust: Trust, checkpoint: Checkpoint) -> None:
    older = verify_log_signature(Note.parse(note), [trust.log_policy.log_key])
    try:
        lines = hashes.decode().split()
    except UnicodeDecodeError:
        raise Malformed("a consistency proof is a base64 hash a line") from None
    proof = parse_hashes(lines)
    verify_consistency(older.size, older.root, checkpoint.size, checkpoint.root, proof)


_REASONS = {
    "log-format": "a note, or a log proof, in its one spelling",
    "log-checkpoint": "signed by the log, and cosigned in time by the quorum of witnesses",
    "log-inclusion": "the leaf is in the checkpoint's tree",
    "log-consistency": "the checkpoint's tree continues the older one",
}


def _step(steps: list[Step], name: str, check: Callable[[], T]) -> T:
    try:
        found = check()
    except TransparencyError as error:
        raise Failure(name, error.code, str(error), steps) from error
    steps.append(Step(name, Outcome.PASS, _REASONS[name]))
    return found


def _claims(checkpoint: Checkpoint, proof: LogProof | None, trust: Trust) -> dict[str, object]:
    return {
        "kind": "log",
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "quorum": trust.log_policy.quorum,
        "witnesses": len(trust.log_policy.witness_keys),
        "index": None if proof is None else proof.index,
    }
