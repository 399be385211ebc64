"""Reading deterministic CBOR maps member by member, each of a stated type and size."""

from __future__ import annotations

from typing import Any, TypeVar

from transparency.errors import Malformed
from wire import cbor
from wire.errors import WireError

MAX_TEXT_LENGTH = 256
MAX_BYTES_LENGTH = 65535
MAX_TIME = 2**53
"""Times and epochs travel through JSON as well, where integers stay exact up to here."""

T = TypeVar("T")


def plain(value: Any, kind: type[T]) -> T:  # noqa: ANN401 - decoded CBOR is of any shape
    """Return `value` if it is exactly of type `kind` (True is no integer).

    Raises:
        Malformed: otherwise.
    """
    if type(value) is not kind:
        raise Malformed(f"a member that is not of type {kind.__name__}")
    return value


class Fields:
    """A CBOR map with exactly the expected members (text keys), read one by one.

    Every method raises Malformed when the member is not what it promises to return.
    """

    def __init__(self, data: bytes, *names: str) -> None:
        try:
            value = cbor.decode(data)
        except WireError as error:
            raise Malformed("not deterministic CBOR") from error
        self._members: dict[str, Any] = plain(value, dict)
        if set(self._members) != set(names):
            raise Malformed("not the members of this map")

    def text(self, name: str) -> str:
        """A text of 1 to 256 characters, without control characters."""
        value = plain(self._members[name], str)
        if not 1 <= len(value) <= MAX_TEXT_LENGTH or not value.isprintable():
            raise Malformed("a text that is empty, too long or not printable")
        return value

    def octets(self, name: str, *, minimum: int = 0, maximum: int = MAX_BYTES_LENGTH) -> bytes:
        """A byte string of a length within the limits."""
        value = plain(self._members[name], bytes)
        if not minimum <= len(value) <= maximum:
            raise Malformed("a byte string of a wrong length")
        return value

    def digest(self, name: str) -> bytes:
        """A SHA-256 digest, 32 bytes."""
        return self.octets(name, minimum=32, maximum=32)

    def time(self, name: str) -> int:
        """A count of seconds or epochs, not negative, below 2^53."""
        value = plain(self._members[name], int)
        if not 0 <= value < MAX_TIME:
            raise Malformed("a time out of range")
        return value

    def period(self) -> tuple[int, int]:
        """The members not_before and not_after, in this order of time."""
        not_before, not_after = self.time("not_before"), self.time("not_after")
        if not_before >= not_after:
            raise Malformed("a validity that ends before it begins")
        return not_before, not_after

    def array(self, name: str, maximum: int) -> list[Any]:
        """An array of at most `maximum` items of any shape."""
        value: list[Any] = plain(self._members[name], list)
        if len(value) > maximum:
            raise Malformed("an array with too many items")
        return value

    def digests_by_text(self, name: str, *, minimum: int, maximum: int) -> dict[str, bytes]:
        """A map from 1 to 16 texts to byte strings of a length within the limits."""
        members: dict[str, Any] = plain(self._members[name], dict)
        if not 1 <= len(members) <= 16:
            raise Malformed("a map with too few or too many members")
        for key, value in members.items():
            if not plain(key, str).isprintable() or not 1 <= len(key) <= MAX_TEXT_LENGTH:
                raise Malformed("a map with a member that has no proper name")
            if not minimum <= len(plain(value, bytes)) <= maximum:
                raise Malformed("a byte string of a wrong length")
        return members
