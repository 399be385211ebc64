"""The answers a capsule gives by itself, inside the encapsulated response.

Each is a constant but for numbers and dates; none repeats anything of the request.
"""

from __future__ import annotations

import json

from server.errors import PeerGone
from server.openai.errors import ApiError, EngineFailure, error_body, unforeseen
from server.tokens import AcceptedIssuer
from wire import bhttp, inner
from wire.privacy_pass import format_challenge

JSON_TYPE = (b"content-type", b"application/json")
PROBLEM_TYPE = (b"content-type", b"application/problem+json")
NO_STORE = (b"cache-control", b"no-store")
RETRY_AFTER = (b"retry-after", b"1")


def of_error(error: ApiError, *headers: tuple[bytes, bytes]) -> bhttp.Response:
    """Return an OpenAI error as a response; one that passes says when to come again."""
    retry = (RETRY_AFTER,) if error.status == 503 else ()
    return bhttp.Response(error.status, (JSON_TYPE, *retry, *headers), error_body(error))


def of_failure(failure: Exception) -> ApiError:
    """Return what is told of a failure around the application: that the keeper ended, if it did."""
    if isinstance(failure, PeerGone):  # the front's end is the client's, and needs no answer
        return EngineFailure("keeper_gone", "The node's keeper ended.", status=503)
    return unforeseen(failure)


def malformed(error: inner.InnerError | None) -> bhttp.Response:
    """Return the answer to an inner request that is not one of ours; None: not even HTTP."""
    if isinstance(error, inner.ForbiddenPath):
        return _invalid(404, "unknown_url", "There is no such endpoint here.")
    if isinstance(error, inner.ForbiddenMethod):
        return _invalid(405, "method_not_allowed", "This endpoint takes another method.")
    if isinstance(error, inner.ExpectRefused):
        return _invalid(417, "expect_refused", "Expect is not supported.")
    return _invalid(400, "malformed_request", "The encapsulated request is malformed.")


def wrong_date(now: int) -> bhttp.Response:
    """Return the answer to a Date outside the window, with ours (RFC 9458, section 6.5.2)."""
    headers = ((b"date", inner.http_date(now)), NO_STORE)
    return _problem(inner.DATE_PROBLEM, "The date of the request is not near ours.", *headers)


def replayed() -> bhttp.Response:
    """Return the answer to a request that was seen before."""
    return _problem("about:blank", "This request was seen before.", NO_STORE)


def busy() -> bhttp.Response:
    """Return the authenticated busy: the client may draw another node."""
    error = ApiError(503, "server_error", "busy", "The node is busy.")
    return of_error(error, NO_STORE)


def payment_unavailable() -> bhttp.Response:
    """Return the answer when the spent-token store did not: nothing was computed."""
    error = ApiError(
        503, "server_error", "payment_unavailable", "Tokens cannot be redeemed at the moment."
    )
    return of_error(error, NO_STORE)


def token_required(issuer: AcceptedIssuer) -> bhttp.Response:
    """Return the one answer to every token that is missing, unreadable, wrong or spent."""
    error = ApiError(401, "authentication_error", "token_required", "A valid token is required.")
    return of_error(error, *_challenges(issuer), NO_STORE)


def too_few_tokens(issuer: AcceptedIssuer, needed: int) -> bhttp.Response:
    """Return the answer to good tokens that are too few: how many there must be."""
    error = ApiError(
        401, "authentication_error", "more_tokens_required", f"The request costs {needed} tokens."
    )
    field = (inner.TOKENS_NEEDED_FIELD, str(needed).encode())
    return of_error(error, *_challenges(issuer), field, NO_STORE)


def _challenges(issuer: AcceptedIssuer) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        (b"www-authenticate", format_challenge(issuer.challenge, spki)) for spki in issuer.spkis[:1]
    )


def _invalid(status: int, code: str, message: str) -> bhttp.Response:
    return of_error(ApiError(status, "invalid_request_error", code, message))


def _problem(kind: str, title: str, *headers: tuple[bytes, bytes]) -> bhttp.Response:
    body = json.dumps({"type": kind, "title": title, "status": 400}, separators=(",", ":"))
    return bhttp.Response(400, (PROBLEM_TYPE, *headers), body.encode())
