"""Whom a client believes about the log: its key and k of n distinct witnesses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from transparency import note
from transparency.checkpoint import Checkpoint
from transparency.errors import Malformed, QuorumMissing, Unsigned, WrongOrigin
from transparency.note import KeyType, Note, VerifierKey

CLOCK_TOLERANCE_S = 60
"""How far a witness's clock may run ahead of the verifier's. Later times are "the future"."""


@dataclass(frozen=True)
class LogPolicy:
    """The log's key, its witnesses' keys, how many of them must have cosigned, and how lately.

    The keys are verifier-key strings (`name+hash+base64`), as they stand in trust.toml; the
    log's key name is its origin. Witnesses are distinct in name and in public key, so that one
    cannot be counted twice under two names.

    Raises:
        Malformed: a key that is none or of the wrong type, two witnesses that are one, the log as
            its own witness, or a quorum that is not between 1 and the number of witnesses.
    """

    log_vkey: str
    witness_vkeys: tuple[str, ...]
    quorum: int
    max_cosignature_age_s: int = 86400

    def __post_init__(self) -> None:
        if self.log_key.type is not KeyType.ED25519:
            raise Malformed("the log's key does not sign notes")
        if any(key.type is not KeyType.COSIGNATURE for key in self.witness_keys):
            raise Malformed("a witness's key does not cosign checkpoints")
        names = {key.name for key in self.witness_keys}
        keys = {key.public_key for key in self.witness_keys} - {self.log_key.public_key}
        if len(names) != len(self.witness_keys) or len(keys) != len(self.witness_keys):
            raise Malformed("the witnesses are not distinct from each other and from the log")
        if not 1 <= self.quorum <= len(self.witness_keys):
            raise Malformed("a quorum of witnesses that do not exist")
        if self.max_cosignature_age_s <= 0:
            raise Malformed("a cosignature age that nothing can meet")

    @cached_property
    def log_key(self) -> VerifierKey:
        """The log's key, parsed."""
        return VerifierKey.parse(self.log_vkey)

    @cached_property
    def witness_keys(self) -> tuple[VerifierKey, ...]:
        """The witnesses' keys, parsed."""
        return tuple(VerifierKey.parse(vkey) for vkey in self.witness_vkeys)

    @property
    def origin(self) -> str:
        """The origin line of the log's checkpoints."""
        return self.log_key.name

    def verify(self, data: bytes, at: int) -> Checkpoint:
        """Return the checkpoint of a cosigned note, believed as of `at` (Unix seconds).

        Lines by unknown keys are ignored. A line by a known key that does not verify refuses the
        whole note; a valid cosignature that is too old or from the future does not count.

        Raises:
            Malformed: not a note, or its text is not a checkpoint.
            WrongOrigin: a checkpoint of another log.
            Unsigned: no signature by the log's key.
            BadSignature: the log's signature does not verify.
            BadCosignature: a known witness's cosignature does not verify.
            QuorumMissing: fewer than `quorum` distinct witnesses count.
        """
        parsed = Note.parse(data)
        checkpoint = verify_log_signature(parsed, [self.log_key])
        witnesses = sum(self._counts(parsed, key, at) for key in self.witness_keys)
        if witnesses < self.quorum:
            raise QuorumMissing(
                f"{witnesses} witnesses cosigned in time, {self.quorum} are demanded"
            )
        return checkpoint

    def _counts(self, parsed: Note, key: VerifierKey, at: int) -> bool:
        times = [note.verify_cosignature(parsed.text, line, key) for line in parsed.by(key)]
        oldest, newest = at - self.max_cosignature_age_s, at + CLOCK_TOLERANCE_S
        return any(oldest <= time <= newest for time in times)


def verify_log_signature(parsed: Note, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Return the checkpoint of a note that the log itself signed; cosignatures are not looked at.

    This is all a witness can ask for. A client asks for more: `LogPolicy.verify`.

    Raises:
        Malformed: the text is not a checkpoint.
        WrongOrigin: none of the keys is of this checkpoint's log.
        Unsigned: no line by the log's key.
        BadSignature: a line by the log's key does not verify.
    """
    checkpoint = Checkpoint.parse(parsed.text)
    known = [key for key in keys if key.name == checkpoint.origin]
    if not known:
        raise WrongOrigin("a checkpoint of another log")
    lines = [(line, key) for key in known for line in parsed.by(key)]
    if not lines:
        raise Unsigned("a checkpoint that its log did not sign")
    for line, key in lines:
        note.verify(parsed.text, line, key)
    return checkpoint
