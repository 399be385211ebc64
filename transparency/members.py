"""Reading parsed JSON member by member, each of a stated type."""

from __future__ import annotations

from typing import Any

from transparency.errors import Malformed


def typed(value: Any, kind: type[Any]) -> Any:  # noqa: ANN401 - decoded JSON is of any shape
    """Return `value` if it is exactly of type `kind` (true is no integer).

    Raises:
        Malformed: otherwise.
    """
    if type(value) is not kind:
        raise Malformed(f"a member that is not of type {kind.__name__}")
    return value


def members(value: Any, names: tuple[str, ...]) -> tuple[Any, ...]:  # noqa: ANN401
    """Return the members of an object that has exactly these.

    Raises:
        Malformed: not an object, or one with other members.
    """
    if set(typed(value, dict)) != set(names):
        raise Malformed("not the members of this object")
    return tuple(value[name] for name in names)


def count(value: Any) -> int:  # noqa: ANN401
    """Return an index or a size, which JSON holds exactly below 2^53.

    Raises:
        Malformed: not an integer, or out of range.
    """
    number: int = typed(value, int)
    if not 0 <= number < 2**53:
        raise Malformed("an index or a size out of range")
    return number
