"""The body of a witness's add-checkpoint request (c2sp.org/tlog-witness).

"old " decimal LF
*( base64(hash) LF )        at most 63
LF
signed checkpoint
"""

from __future__ import annotations

from dataclasses import dataclass

from transparency.errors import Malformed
from transparency.note import Note
from transparency.proof import parse_hashes
from transparency.text import decode_decimal, encode_base64

MAX_REQUEST_LENGTH = 128 << 10
SIZE_TYPE = "text/x.tlog.size"
"""The media type of a 409 answer, whose body is the size the witness is at."""


@dataclass(frozen=True)
class AddCheckpoint:
    """The size the log believes the witness is at, the proof from there, and the signed note."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def encode(self) -> bytes:
        """Return the body's one encoding."""
        lines = [f"old {self.old_size}", *(encode_base64(item) for item in self.proof)]
        return ("\n".join(lines) + "\n\n").encode() + self.note

    @classmethod
    def parse(cls, data: bytes) -> AddCheckpoint:
        """Parse a body; the note must be one, its signatures are not looked at.

        Raises:
            Malformed: anything else.
        """
        if len(data) > MAX_REQUEST_LENGTH:
            raise Malformed("an add-checkpoint request of more than 128 KiB")
        head, separator, note = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise Malformed("an add-checkpoint request begins in ASCII") from None
        if not separator or not lines[0].startswith("old "):
            raise Malformed("an add-checkpoint request begins with the old size")
        Note.parse(note)
        return cls(decode_decimal(lines[0].removeprefix("old ")), parse_hashes(lines[1:]), note)
