"""What a person saves of a completion: request, response, and the member `attestation` in it.

    curl -sN http://127.0.0.1:8080/v1/chat/completions -d @request.json -o response
    curl -s  http://127.0.0.1:8081/nodes -o nodes.json              the relay's, the same day

The response is the JSON body or the whole event stream, byte for byte as it arrived. Receipt and
salts are in its attestation; they may also be given as files of their own.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from client.canonical import canonical_body, parse_body
from client.errors import RequestRefused
from client.sse import EventParser
from sottovoce.verify.arguments import Unusable
from wire import canonical_json, receipt
from wire.errors import Malformed, WireError

_TAGGED = b"\xd2"
"""How a COSE_Sign1 in CBOR begins: tag 18."""


@dataclass(frozen=True)
class Response:
    """A response as it is hashed, and what it says of itself.

    Attributes:
        payloads: in order; the receipt's place empty in the one that carried it.
        attestation: the member `attestation`; empty if there is none.
        usage: prompt and completion tokens, as the response states them; None twice if it does not.
    """

    payloads: tuple[bytes, ...]
    attestation: dict[str, Any]
    usage: tuple[int | None, int | None]

    def hash(self, salt: bytes) -> bytes:
        """Return the response hash under a salt of 32 bytes."""
        response_hash = receipt.ResponseHash(salt)
        for payload in self.payloads:
            response_hash.add(payload)
        return response_hash.digest()


def parse_response(data: bytes) -> Response:
    """Take a saved response apart: a JSON body, or a stream of server-sent events.

    Raises:
        Unusable: an event stream that does not end with a whole event.
    """
    if not data.lstrip().startswith((b"data:", b"event:", b":")):
        return _response([data.rstrip(b"\r\n")])
    events = EventParser()
    payloads = events.feed(data)
    if not events.empty:
        raise Unusable("the response is an event stream that does not end with a whole event")
    return _response(payloads)


def _response(payloads: Iterable[bytes]) -> Response:
    bare: list[bytes] = []
    attestation: dict[str, Any] = {}
    usage: tuple[int | None, int | None] = (None, None)
    for payload in payloads:
        try:
            hashed, written = receipt.without_attestation(payload)
            attestation = canonical_json.decode(written)
            usage = receipt.stated_usage(hashed)
        except WireError:
            bare.append(payload)
        else:
            bare.append(hashed)
    return Response(tuple(bare), attestation, usage)


def parse_receipt(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """Return a receipt, and the attestation around it if the file holds that.

    Args:
        data: the COSE_Sign1 itself, its base64, or the whole member `attestation`.

    Raises:
        Unusable: none of these.
    """
    if data.startswith(_TAGGED):
        return data, {}
    attestation: dict[str, Any] = {}
    text: object = data.decode("latin-1").strip()
    if data.lstrip().startswith(b"{"):
        attestation = _object(data, "the receipt file")
        text = attestation.get("receipt")
    return _base64(text, "the receipt"), attestation


def parse_salts(attestation: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return the salts of request and response, from an attestation or its member `salts`.

    Raises:
        Unusable: it has none, or not of 32 bytes in base64 each.
    """
    salts = attestation.get("salts", attestation)
    if not isinstance(salts, dict):
        raise Unusable("the salts are not an object with request and response")
    found = [_base64(salts.get(name), f"the {name} salt") for name in ("request", "response")]
    if any(len(salt) != 32 for salt in found):
        raise Unusable("a salt is 32 bytes")
    return found[0], found[1]


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
        Unusable: it holds something else.
    """
    return _object(data, what)


def request_hashes(data: bytes, path: str | None, salt: bytes) -> tuple[bytes, bytes]:
    """Return the hashes that a saved request may have: as a client of ours sends it, and as it is.

    Args:
        data: the body, as the program wrote it.
        path: of the request; None: that of the endpoint whose body has such members.
        salt: 32 bytes.

    Raises:
        Unusable: not a JSON object, or a path that is none.
    """
    try:
        members = parse_body(data)
        canonical = canonical_body(members)
    except RequestRefused as error:
        raise Unusable(f"the request: {error}") from None
    try:
        where = (_path_of(members) if path is None else path).encode()
        hashes = [receipt.request_hash(salt, where, body) for body in (canonical, data)]
    except (Malformed, UnicodeEncodeError):
        raise Unusable("the path is none") from None
    return hashes[0], hashes[1]


def _path_of(members: dict[str, Any]) -> str:
    if "input" in members:
        return "/v1/responses"
    return "/v1/chat/completions" if "messages" in members else "/v1/completions"


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = canonical_json.decode(data)
    except Malformed:
        raise Unusable(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise Unusable(f"{what} is not a JSON object")
    return value


def _base64(text: object, what: str) -> bytes:
    try:
        return base64.b64decode(text if isinstance(text, str) else "!", validate=True)
    except ValueError:
        raise Unusable(f"{what} is missing, or not base64") from None
