"""A client's policy as a TOML text: the fields of `ClientPolicy` and its parts, by their names.

    accepted-weaknesses = ["boot-only"]          # a set: an array of texts, none of them twice
    max-quote-age-s = 7200
    [engine]                                     # a part: a table
    verification = "full"
    [models]                                     # a list for each name
    "some-model" = ["5e88...cd"]

A key is its field's name with hyphens. What is left out keeps its strict default: the empty text is
the default policy. An unknown key or another type is refused, with what could stand there. The one
line `accept-everything-unsafe = true` is a policy by itself and stands alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, get_args, get_origin, get_type_hints

from attestation.errors import PolicyError
from attestation.verifier.policy import ClientPolicy
from attestation.verifier.unsafe_policy import AcceptEverythingUnsafe

MAX_LENGTH = 1 << 20
EVERYTHING = "accept-everything-unsafe"


def parse_policy(text: str) -> ClientPolicy:
    """Parse the text of a policy file.

    Raises:
        PolicyError: not TOML, too long, an unknown key, a value of another type or one that does
            not exist. The message names the key and what it permits.
    """
    if len(text) > MAX_LENGTH:
        raise PolicyError("policy: too long")
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise PolicyError(f"policy: not TOML: {error}") from None
    if EVERYTHING in table:
        return _everything(table)
    policy: ClientPolicy = _read(ClientPolicy, table, "")
    return policy


def _everything(table: Mapping[str, Any]) -> ClientPolicy:
    if table != {EVERYTHING: True} or table[EVERYTHING] is not True:
        raise PolicyError(f"policy: {EVERYTHING} is true and stands alone, or is not there at all")
    return AcceptEverythingUnsafe()


def _read(kind: Any, value: Any, path: str) -> Any:  # noqa: ANN401 - TOML into any declared type
    if is_dataclass(kind):
        return _read_part(kind, value, path)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is frozenset:
        return _read_set(arguments[0], value, path)
    if origin is not None and issubclass(origin, Mapping):
        table = _typed(dict, value, path)
        return MappingProxyType(
            {name: _read(arguments[1], table[name], f"{path}.{name}") for name in table}
        )
    return _read_scalar(kind, value, path)


def _read_part(kind: Any, value: Any, path: str) -> Any:  # noqa: ANN401 - likewise
    table, types = _typed(dict, value, path), _fields(kind)
    for key in table:
        if key not in types:
            where = f"{path}.{key}".lstrip(".")
            raise PolicyError(f"policy: there is no {where}; permitted: {', '.join(sorted(types))}")
    read = {
        key.replace("-", "_"): _read(types[key], table[key], f"{path}.{key}".lstrip("."))
        for key in table
    }
    try:
        return kind(**read)
    except ValueError as error:
        raise PolicyError(f"policy{path and ', ' + path}: {error}") from None


def _read_set(kind: Any, value: Any, path: str) -> frozenset[Any]:  # noqa: ANN401 - likewise
    items = [_read_scalar(kind, item, path) for item in _typed(list, value, path)]
    if len(set(items)) != len(items):
        raise PolicyError(f"policy: {path} names something twice")
    return frozenset(items)


def _read_scalar(kind: Any, value: Any, path: str) -> Any:  # noqa: ANN401 - likewise
    if kind in (bool, int):
        return _typed(kind, value, path)
    text = _typed(str, value, path)
    try:
        return kind(text)
    except ValueError:
        raise PolicyError(f"policy: {path} has no value {text}; {_permitted(kind)}") from None


def _typed(kind: type, value: Any, path: str) -> Any:  # noqa: ANN401 - likewise
    # `type(...) is` and not isinstance: TOML's true is no number.
    if type(value) is not kind:
        raise PolicyError(f"policy: {path} is not {_TYPES[kind]}")
    return value


def _permitted(kind: Any) -> str:  # noqa: ANN401 - an enumeration of texts
    return f"permitted: {', '.join(sorted(kind))}"


_TYPES = {dict: "a table", list: "an array", str: "a text", int: "an integer", bool: "a boolean"}


@cache
def _fields(kind: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a dataclass
    hints = get_type_hints(kind)
    return {field.name.replace("_", "-"): hints[field.name] for field in fields(kind)}
