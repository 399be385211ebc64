"""One spelling for one request, whatever program wrote it.

Bodies differ between SDKs in member order, white space, explicit nulls and number spelling, and
they may carry fields that say who asks. None of that may reach a worker: the spelling would
partition the users, the identity fields would name them.
"""

from __future__ import annotations

from typing import Any

from client.errors import RequestRefused
from wire import canonical_json
from wire.errors import Malformed

IDENTITY_FIELDS = frozenset(
    {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "store"}
)
"""Members that name the caller or ask for memory; dropped before the request is sealed."""


def parse_body(body: bytes) -> dict[str, Any]:
    """Parse the caller's body as one JSON object.

    Raises:
        RequestRefused: not JSON, a duplicate member, or not an object.
    """
    try:
        value = canonical_json.decode(body)
    except Malformed as error:
        raise RequestRefused(f"the request body is {error}") from None
    if not isinstance(value, dict):
        raise RequestRefused("the request body is not a JSON object")
    return value


def canonical_body(members: dict[str, Any]) -> bytes:
    """Re-serialise a request without identity fields and explicit nulls, members sorted.

    Only top-level nulls go: OpenAI defines them as equal to absence there, and only there.

    Raises:
        RequestRefused: a text in it is not Unicode (a lone surrogate).
    """
    kept = {
        name: member
        for name, member in members.items()
        if member is not None and name not in IDENTITY_FIELDS
    }
    try:
        return canonical_json.encode(kept)
    except Malformed:
        raise RequestRefused("the request body holds text that is not Unicode") from None
