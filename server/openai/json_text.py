"""The one reading of a request body: strict JSON that no two parsers can understand differently.

Refused: anything but UTF-8, NaN and the infinities, an object that names a member twice, an escaped
half of a surrogate pair, nesting deeper than `MAX_DEPTH`, a body that is not an object.
"""

from __future__ import annotations

from typing import Any

from server.openai.errors import InvalidRequest
from wire import canonical_json
from wire.errors import Malformed

MAX_DEPTH = 64  # a JSON schema of a real API nests about 20 deep; templates recurse over it


def decode_object(body: bytes) -> dict[str, Any]:
    """Decode a request body.

    Raises:
        InvalidRequest: code `invalid_json`, without a word of the body.
    """
    try:
        value = canonical_json.decode(body.decode())
    except (UnicodeDecodeError, Malformed):
        # `from None`: the decoder's exception carries the body.
        raise InvalidRequest(
            "invalid_json",
            "The body must be one JSON object in UTF-8, without NaN and without a member twice.",
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest("invalid_json", "The body must be a JSON object.")
    _check(value, MAX_DEPTH)
    return value


def _check(value: Any, depth: int) -> None:  # noqa: ANN401 - any JSON value
    """Refuse deep nesting and text that has no UTF-8 encoding, names of members included."""
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict | list):
        if depth == 0:
            raise InvalidRequest("invalid_json", f"The body nests deeper than {MAX_DEPTH} levels.")
        if isinstance(value, dict):
            for name in value:
                _check_text(name)
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth - 1)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "invalid_json", "A string of the body holds half of a surrogate pair."
        ) from None
