"""The errors of the relay.

    RelayError
    ├── BadConfig              the configuration cannot be served safely
    ├── BrokenOff              a worker's answer has no end
    ├── ClientGone             the client hung up; nobody is left to answer
    ├── StartFailed            the service could not start; its log says why
    └── Refusal                answered in clear as `application/problem+json`
        ├── UnknownKey         400 no worker has this key id; only for stock clients
        ├── UnknownPath        404 no such resource
        ├── UnknownNode        404 no worker has this key document
        ├── BodyTooSlow        408
        ├── BodyTooLarge       413
        ├── WrongMediaType     415 not an encapsulated request
        ├── TooManyRequests    429 with Retry-After
        ├── Unreachable        503 with Retry-After
        └── TimedOut           504

A refusal says nothing about the client and nothing that differs from one client to the next.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar


class RelayError(Exception):
    """Base of every error raised by `relay`."""


class BadConfig(RelayError):
    """The configuration names files or addresses that cannot be served safely."""


class BrokenOff(RelayError):
    """The worker's answer ended early, stalled, or turned out to be none."""


class ClientGone(RelayError):
    """The client hung up before the response was complete."""


class StartFailed(RelayError):
    """The service could not start; its log says why."""


class Refusal(RelayError):
    """A request that is answered by the relay itself."""

    status: ClassVar[HTTPStatus]
    problem_type: ClassVar[str] = "about:blank"
    retry_after_s: ClassVar[int | None] = None


class UnknownKey(Refusal):
    """No worker the relay knows of has this key id (RFC 9458, section 5.3)."""

    status = HTTPStatus.BAD_REQUEST
    problem_type = "https://iana.org/assignments/http-problem-types#ohttp-key"


class UnknownPath(Refusal):
    """No resource of the relay has this path."""

    status = HTTPStatus.NOT_FOUND


class UnknownNode(Refusal):
    """No worker the relay knows of has this key document."""

    status = HTTPStatus.NOT_FOUND


class BodyTooSlow(Refusal):
    """The body did not arrive in time."""

    status = HTTPStatus.REQUEST_TIMEOUT


class BodyTooLarge(Refusal):
    """The body is longer than any encapsulated request."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class WrongMediaType(Refusal):
    """The body is not an encapsulated request."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class TooManyRequests(Refusal):
    """The address asks more often than it may."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    retry_after_s = 1  # the same for everybody; by then an empty bucket has a few tokens again


class Unreachable(Refusal):
    """The worker (or the log) cannot be connected to, or gave no whole answer."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_s = 5  # long enough for a worker to restart its front, short for a person


class TimedOut(Refusal):
    """The worker (or the log) did not answer in time."""

    status = HTTPStatus.GATEWAY_TIMEOUT
