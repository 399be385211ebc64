"""Refusals as problem documents (RFC 9457), the same for every client."""

from __future__ import annotations

import json
from http import HTTPStatus

from starlette.responses import Response

from relay.errors import Refusal


def problem(
    status: HTTPStatus, retry_after_s: int | None = None, kind: str = "about:blank"
) -> Response:
    """Return a response that says no more than `status`.

    It closes the connection: the body of the request may be unread, and is not worth reading.
    """
    document = {"type": kind, "title": status.phrase, "status": status.value}
    headers = {"cache-control": "no-store", "connection": "close"}
    if retry_after_s is not None:
        headers["retry-after"] = str(retry_after_s)
    return Response(
        json.dumps(document), status, headers=headers, media_type="application/problem+json"
    )


def refused(refusal: Refusal) -> Response:
    """Return the response to a refused request."""
    return problem(refusal.status, refusal.retry_after_s, refusal.problem_type)
