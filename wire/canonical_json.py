"""One encoding for one JSON value: sorted members, no white space, integral floats as integers.

Used where the digest of a JSON text matters (engine policy) and where two clients' spellings of
the same request must not differ (inner requests). Close to RFC 8785, with 64-bit integers exact.
"""

from __future__ import annotations

import json
from typing import Any

from wire.errors import Malformed


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def encode(value: Any) -> bytes:  # noqa: ANN401
    """Encode `value` as canonical UTF-8 JSON.

    Raises:
        Malformed: not a JSON value (NaN and the infinities are none).
    """
    try:
        text = json.dumps(
            _plain(value),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )
        return text.encode()
    except (ValueError, TypeError, RecursionError) as error:  # lone surrogates are ValueErrors too
        raise Malformed("not a JSON value") from error


def _no_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(members)
    if len(result) != len(members):
        raise Malformed("a JSON object names a member twice")
    return result


def _refuse_constant(_: str) -> Any:  # noqa: ANN401
    raise Malformed("NaN and the infinities are not JSON")


def decode(data: bytes | str) -> Any:  # noqa: ANN401
    """Decode strict JSON: UTF-8 without a byte order mark, no NaN, no duplicate members.

    Raises:
        Malformed: anything else.
    """
    try:
        # Decoded here: given bytes, `json` would take UTF-16 and UTF-32 as well.
        text = data if isinstance(data, str) else data.decode()
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # `from None`: the decoder's own exception carries the whole text it was given.
        raise Malformed("not JSON") from None
