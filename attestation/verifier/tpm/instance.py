"""Which machine Google's CA has certified a key for: an extension of its certificates.

1.3.6.1.4.1.11129.2.1.21 = SEQUENCE {zone UTF8String, project number INTEGER, project UTF8String,
    instance id INTEGER, instance UTF8String, [0] properties OPTIONAL}
properties = SEQUENCE {[0] version INTEGER, [1] production BOOLEAN, ...}     (all EXPLICIT)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attestation.errors import MalformedEvidence
from attestation.verifier.tpm.reader import Reader

OID = "1.3.6.1.4.1.11129.2.1.21"
_BOOLEAN, _INTEGER, _UTF8, _SEQUENCE, _FIRST, _SECOND = 0x01, 0x02, 0x0C, 0x30, 0xA0, 0xA1
_NAMES = (_UTF8, _INTEGER, _UTF8, _INTEGER, _UTF8)


@dataclass(frozen=True)
class Instance:
    """A machine in Google's cloud.

    Attributes:
        zone: where it runs.
        project_number: the number of its owner's project.
        project: the project's name.
        number: the machine's number.
        name: the machine's name.
        production: whether the CA speaks of a machine in production; None if it does not say.
    """

    zone: str
    project_number: int
    project: str
    number: int
    name: str
    production: bool | None

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "zone": self.zone,
            "project_number": self.project_number,
            "project_id": self.project,
            "instance_id": self.number,
            "instance_name": self.name,
            "production": self.production,
        }

    @classmethod
    def parse(cls, data: bytes) -> Instance:
        """Parse the extension's value.

        Raises:
            MalformedEvidence: not DER of this form.
        """
        ((tag, content),) = _one(data)
        elements = list(_elements(content)) if tag == _SEQUENCE else []
        if tuple(tag for tag, _ in elements[:5]) != _NAMES or len(elements) > 6:
            raise MalformedEvidence("instance: not of its form")
        zone, number, project, instance, name = (value for _, value in elements[:5])
        return cls(
            _text(zone),
            _number(number),
            _text(project),
            _number(instance),
            _text(name),
            _production(elements[5]) if len(elements) == 6 else None,
        )


def _production(element: tuple[int, bytes]) -> bool | None:
    tag, content = element
    ((inner, members),) = _one(content)
    if (tag, inner) != (_FIRST, _SEQUENCE):
        raise MalformedEvidence("instance: properties of another form")
    for each, value in _elements(members):
        if each == _SECOND:
            ((kind, truth),) = _one(value)
            if kind != _BOOLEAN or truth not in {b"\x00", b"\xff"}:
                raise MalformedEvidence("instance: neither true nor false")
            return truth == b"\xff"
    return None


def _one(data: bytes) -> list[tuple[int, bytes]]:
    elements = list(_elements(data))
    if len(elements) != 1:
        raise MalformedEvidence("instance: not one element")
    return elements


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Read the elements of DER: a tag of one byte, a length of at most two, and the content."""
    reader = Reader(data, "instance")
    while reader.remaining:
        tag, length = reader.integer(1), reader.integer(1)
        if length > 0x7F:
            if length != 0x81:
                raise MalformedEvidence("instance: an element that is too long")
            length = reader.integer(1)
            if length < 0x80:
                raise MalformedEvidence("instance: a length that is not in its shortest form")
        yield tag, reader.take(length)


def _number(content: bytes) -> int:
    value = int.from_bytes(content, "big", signed=True)
    if not 1 <= len(content) <= 9 or value < 0:
        raise MalformedEvidence("instance: a number that is none")
    return value


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except ValueError as error:
        raise MalformedEvidence("instance: a name that is not UTF-8") from error
