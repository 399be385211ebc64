"""A cursor over bytes that others wrote: it gives what is there, or refuses."""

from __future__ import annotations

from typing import Literal

from attestation.errors import MalformedEvidence


class Reader:
    """Reads fields one after the other, never past the end.

    Args:
        data: what is read.
        what: what it is, for the error of a field that is not there.
        order: the byte order of its integers: a TPM's structures are big-endian, event logs and
            what a firmware writes little-endian.
    """

    def __init__(self, data: bytes, what: str, *, order: Literal["big", "little"] = "big") -> None:
        self._data = data
        self._what = what
        self._order = order
        self._offset = 0

    @property
    def remaining(self) -> int:
        """How many bytes have not been read."""
        return len(self._data) - self._offset

    def take(self, length: int) -> bytes:
        """Read `length` bytes.

        Raises:
            MalformedEvidence: (here and in every method) fewer are left.
        """
        if length > self.remaining:
            raise MalformedEvidence(f"{self._what}: truncated")
        self._offset += length
        return self._data[self._offset - length : self._offset]

    def peek(self, length: int) -> bytes:
        """Return the next `length` bytes, or as many as are left, without reading them."""
        return self._data[self._offset : self._offset + length]

    def integer(self, length: int) -> int:
        """Read an unsigned integer of `length` bytes."""
        return int.from_bytes(self.take(length), self._order)

    def sized(self, *, at_most: int, length: int = 2) -> bytes:
        """Read bytes that follow their own length: a TPM2B of Part 2, section 10.4.

        Args:
            at_most: the most bytes that make sense here.
            length: how many bytes the length has.
        """
        size = self.integer(length)
        if size > at_most:
            raise MalformedEvidence(f"{self._what}: a field of {size} bytes, at most {at_most}")
        return self.take(size)

    def rest(self) -> bytes:
        """Read everything that is left."""
        return self.take(self.remaining)

    def finish(self) -> None:
        """Check that everything was read."""
        if self.remaining:
            raise MalformedEvidence(f"{self._what}: {self.remaining} bytes too many")
