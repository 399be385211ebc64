"""The issuer's token keys, fetched from its directory (RFC 9578, section 4).

A worker takes what the directory says: a wrong key there costs the operator money, not a client
its privacy. That clients see one and the same key is the log's business, and they insist on it.
"""

from __future__ import annotations

import httpx

from server.errors import ServerError
from wire import canonical_json
from wire.auth_params import decode_base64url
from wire.errors import WireError
from wire.privacy_pass import (
    ISSUER_DIRECTORY_PATH,
    TOKEN_TYPE,
    load_spki,
)

MAX_KEYS = 8


class IssuerUnavailable(ServerError):
    """The issuer's directory cannot be fetched or read."""


def fetch_issuer_keys(issuer_url: str, *, timeout: float = 5.0) -> tuple[bytes, ...]:
    """Fetch the token keys (SPKI) of our token type, the preferred one first.

    Raises:
        IssuerUnavailable: no connection, no directory, or no usable key in it.
    """
    url = issuer_url.rstrip("/") + ISSUER_DIRECTORY_PATH
    try:
        with httpx.Client(trust_env=False, timeout=timeout) as client:
            response = client.get(url)
    except httpx.HTTPError as error:
        raise IssuerUnavailable("the issuer cannot be reached") from error
    if response.status_code != httpx.codes.OK:
        raise IssuerUnavailable("the issuer has no directory")
    return parse_directory(response.content)


def parse_directory(content: bytes) -> tuple[bytes, ...]:
    """Parse a directory; keys of other types are passed over.

    Raises:
        IssuerUnavailable: not a directory, or one without a key of our type.
    """
    try:
        entries = canonical_json.decode(content)["token-keys"]
        keys = [
            decode_base64url(entry["token-key"].encode())
            for entry in entries
            if entry["token-type"] == TOKEN_TYPE
        ]
        for key in keys:
            load_spki(key)
    except (WireError, KeyError, TypeError, AttributeError, UnicodeEncodeError) as error:
        raise IssuerUnavailable("the issuer's directory cannot be read") from error
    if not 0 < len(keys) <= MAX_KEYS:
        raise IssuerUnavailable("the issuer's directory has no key, or too many")
    return tuple(keys)
