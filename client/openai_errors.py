"""Our errors as OpenAI clients know them: `{"error": {"message", "type", "param", "code"}}`.

Every failure on the way to or from the worker carries `x-should-retry: false`. An SDK that retried
by itself would draw another node, and a relay that drops requests could so choose who serves them.
"""

from __future__ import annotations

import json

from fastapi.responses import Response

from client.errors import (
    ClientError,
    HostRefused,
    IssuerError,
    NodeListError,
    NoNode,
    QuoteRefused,
    RelayError,
    RelayTimeout,
    RequestRefused,
    ResponseError,
    StateUnwritable,
    VerificationFailed,
    WalletEmpty,
)
from client.remedies import explain, sentence

NO_RETRY = {"x-should-retry": "false"}

_STATUS: tuple[tuple[type[ClientError], int], ...] = (
    (RequestRefused, 400),
    (HostRefused, 421),
    (RelayTimeout, 504),
    (RelayError, 502),
    (ResponseError, 502),
    (VerificationFailed, 502),
    (WalletEmpty, 429),
    (IssuerError, 503),
    (NodeListError, 503),
    (NoNode, 503),
    (QuoteRefused, 503),
    (StateUnwritable, 503),
)

RETRY_AFTER_S = {429: 5, 503: 1}
"""What `retry-after` says where asking again may help: tokens come in seconds, a place sooner."""

_TOO_MANY = 429

_HTTP_MESSAGES = {
    404: ("not_found", "there is nothing at this path"),
    405: ("method_not_allowed", "this path does not take this method"),
    413: ("request_too_large", "the request body is too large"),
}


def body(error: ClientError) -> bytes:
    """Return the error object of `error` as JSON."""
    return _encode(explain(error), _kind(_status(error)), error.code)


def response(error: ClientError) -> Response:
    """Return the HTTP response for `error`."""
    return _response(body(error), _status(error))


def for_status(status: int, reason: str | None = None) -> Response:
    """Return the response for a request that no handler takes; `reason` says more, if known."""
    code, message = _HTTP_MESSAGES.get(status, ("invalid_request", "the request is refused"))
    text = f"{message}. {reason}" if reason else message
    return _response(_encode(text, "invalid_request_error", code), status)


def internal() -> Response:
    """Return the response to a failure that nobody foresaw; it says nothing of the request."""
    return _response(_encode("the proxy failed", "sottovoce_error", "internal_error"), 500)


def malformed_http() -> bytes:
    """Return the error object for bytes that are no HTTP request."""
    return _encode("this is not an HTTP request", "invalid_request_error", "malformed_http")


def of_answer(content: bytes, status: int) -> Response:
    """Return a worker's own error as it is; what it says of retrying is said here."""
    return _response(content, status)


def unknown_model() -> Response:
    """Return the 404 for a model that no verified node serves."""
    text = sentence("no verified node serves the model that was asked for", "model_not_found")
    return _response(_encode(text, "invalid_request_error", "model_not_found", "model"), 404)


def token_refused() -> Response:
    """Return the answer where the worker took none of our tokens."""
    text = sentence("the worker refused this client's token", "token_refused")
    return _response(_encode(text, "sottovoce_error", "token_refused"), 503)


def _kind(status: int) -> str:
    if status == _TOO_MANY:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "sottovoce_error"


def _status(error: ClientError) -> int:
    if isinstance(error, RelayError) and error.status == _TOO_MANY:
        return _TOO_MANY
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def _encode(message: str, kind: str, code: str, param: str | None = None) -> bytes:
    members = {"message": message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": members}).encode()


def _response(content: bytes, status: int) -> Response:
    headers = dict(NO_RETRY)
    if status in RETRY_AFTER_S:
        headers["retry-after"] = str(RETRY_AFTER_S[status])
    return Response(content, status, headers=headers, media_type="application/json")
