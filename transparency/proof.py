"""Log proofs (c2sp.org/tlog-proof): one text that proves one leaf, offline.

"c2sp.org/tlog-proof@v1" LF
[ "extra " base64 LF ]
"index " decimal LF
*( base64(hash) LF )
LF
signed checkpoint
"""

from __future__ import annotations

from dataclasses import dataclass

from transparency.checkpoint import Checkpoint
from transparency.errors import Malformed
from transparency.merkle import HASH_LENGTH, MAX_PROOF_LENGTH, verify_inclusion
from transparency.note import MAX_NOTE_LENGTH, Note
from transparency.policy import LogPolicy
from transparency.text import decode_base64, decode_decimal, encode_base64
from wire.merkle import leaf_hash

_HEADER = "c2sp.org/tlog-proof@v1"
_MAX_LENGTH = 2 * MAX_NOTE_LENGTH


@dataclass(frozen=True)
class LogProof:
    """A leaf's index, its audit path and a signed checkpoint (a note). Not yet verified.

    `extra` is the application's own and not authenticated by anything here.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""

    def encode(self) -> str:
        """Return the text."""
        lines = [_HEADER]
        if self.extra:
            lines.append(f"extra {encode_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines.extend(encode_base64(item) for item in self.hashes)
        return "\n".join(lines) + "\n\n" + self.checkpoint.decode()

    @classmethod
    def parse(cls, text: str) -> LogProof:
        """Parse the text.

        Raises:
            Malformed: not the one spelling of a proof, or its checkpoint is not a note.
        """
        if len(text) > _MAX_LENGTH:
            raise Malformed("a log proof of more than 128 KiB")
        head, separator, note = text.partition("\n\n")
        lines = head.split("\n")
        if not separator or lines[0] != _HEADER:
            raise Malformed("not a log proof of version 1")
        extra = b""
        if len(lines) > 1 and lines[1].startswith("extra "):
            extra = decode_base64(lines.pop(1).removeprefix("extra "))
            if not extra:
                raise Malformed("an extra line without data")
        if len(lines) < 2 or not lines[1].startswith("index "):
            raise Malformed("a log proof without an index")
        index = decode_decimal(lines[1].removeprefix("index "))
        checkpoint = note.encode("utf-8", "surrogatepass")
        Note.parse(checkpoint)
        return cls(index, parse_hashes(lines[2:]), checkpoint, extra)


def parse_hashes(lines: list[str]) -> tuple[bytes, ...]:
    """Parse a Merkle proof, one base64 hash an item.

    Raises:
        Malformed: not hashes, or more than any tree needs.
    """
    if len(lines) > MAX_PROOF_LENGTH:
        raise Malformed("a Merkle proof of more than 63 hashes")
    return tuple(decode_base64(line, HASH_LENGTH) for line in lines)


def verify_proof(proof: LogProof, leaf: bytes, *, policy: LogPolicy, at: int) -> Checkpoint:
    """Check that the log contains `leaf` and return the cosigned checkpoint that says so.

    Raises:
        NotIncluded: the leaf is not at this index of the checkpoint's tree.
        TransparencyError: the checkpoint does not satisfy the policy (`LogPolicy.verify`).
    """
    checkpoint = policy.verify(proof.checkpoint, at)
    verify_inclusion(leaf_hash(leaf), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return checkpoint
