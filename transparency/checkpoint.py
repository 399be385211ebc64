"""Checkpoints (c2sp.org/tlog-checkpoint): the text of the note that commits a log to a tree.

    origin LF size LF base64(root) LF

Extension lines are allowed by the format and refused here: no monitor audits them, and a line
that differs from client to client would mark the client.
"""

from __future__ import annotations

from dataclasses import dataclass

from transparency.errors import Malformed
from transparency.text import decode_base64, decode_decimal, encode_base64
from wire.merkle import EMPTY_ROOT

_ROOT_LENGTH = 32


@dataclass(frozen=True)
class Checkpoint:
    """One state of one log: its origin, the number of leaves, and the root over them."""

    origin: str
    size: int
    root: bytes

    def encode(self) -> str:
        """Return the note text."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Parse a note text.

        Raises:
            Malformed: not three lines, not their one spelling, extension lines, or an empty tree
                with another root than the empty one.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise Malformed("a checkpoint is an origin, a size and a root, a line each")
        checkpoint = cls(lines[0], decode_decimal(lines[1]), decode_base64(lines[2], _ROOT_LENGTH))
        if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
            raise Malformed("an empty tree with a root over leaves")
        return checkpoint
