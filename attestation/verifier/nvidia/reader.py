"""Reading of binary formats: every length is checked against what is there, before it is used."""

from __future__ import annotations

from attestation.errors import MalformedEvidence


class Reader:
    """The bytes of one structure, read from front to back.

    Args:
        data: all of it.
        what: how the structure is called in errors.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._at = 0

    @property
    def at(self) -> int:
        """The offset of the next byte."""
        return self._at

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._data)

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes.

        Raises:
            MalformedEvidence: so many are not left.
        """
        if length > len(self._data) - self._at:
            raise MalformedEvidence(f"{self._what}: truncated at byte {self._at}")
        self._at += length
        return self._data[self._at - length : self._at]

    def uint(self, length: int) -> int:
        """Return the next unsigned integer, little-endian as all of SPDM is."""
        return int.from_bytes(self.take(length), "little")

    def end(self) -> None:
        """Check that nothing is left.

        Raises:
            MalformedEvidence: something is.
        """
        if not self.exhausted:
            raise MalformedEvidence(f"{self._what}: bytes after its end, at byte {self._at}")


def read_der(reader: Reader) -> tuple[int, bytes]:
    """Return tag and content of the next DER element (X.690, sections 8.1 and 10.1).

    Raises:
        MalformedEvidence: truncated, a tag number above 30, an indefinite length, or a length that
            is not in its shortest form or needs more than four bytes.
    """
    tag, length = reader.uint(1), reader.uint(1)
    if tag & 0x1F == 0x1F:
        raise MalformedEvidence("DER: a tag of more than one byte")
    if length >= 0x80:
        octets = reader.take(length & 0x7F)
        length = int.from_bytes(octets)
        if not 1 <= len(octets) <= 4 or octets[0] == 0 or length < 0x80:
            raise MalformedEvidence("DER: a length that is not in its one form")
    return tag, reader.take(length)
