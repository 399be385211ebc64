"""GET /v1/attestation?nonce=<64 hex digits>: this node's evidence over a nonce of the client's.

The answer is the bundle itself. It carries no receipt: nothing was computed, and what it says of
the node its quote proves. It costs one token, given back where there is no quote.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from engine.connection import EngineConnection
from engine.types import VerificationCounts
from server.messages import Quoted, Quoting
from server.openai import counts
from server.openai.errors import ApiError, InvalidRequest
from server.openai.outputs import Body, Head, Output, Usage

PATH = b"/v1/attestation"
MEDIA_TYPE = b"application/cmw+json"

_QUERY = re.compile(rb"nonce=([0-9a-f]{64})")


class QuotePlan:
    """The plan of a fresh quote (`server.openai.outputs.Plan`).

    Args:
        query: of the request.
        quote: has the platform quote a nonce.

    Raises:
        InvalidRequest: (on construction) the query is not one nonce in lower-case hexadecimal.
    """

    tokens_needed = 1
    streamed = False

    def __init__(self, query: bytes, quote: Callable[[bytes], Quoted]) -> None:
        match = _QUERY.fullmatch(query)
        if match is None:
            raise InvalidRequest("invalid_nonce", "A nonce is 64 lower-case hex digits.", "nonce")
        self._nonce = bytes.fromhex(match[1].decode())
        self._quote = quote

    def run(
        self,
        engine: EngineConnection,  # noqa: ARG002 - Plan's signature
        rng_seed: Callable[[], int],  # noqa: ARG002
        now: int,  # noqa: ARG002
    ) -> Iterator[Output]:
        """Yield the bundle.

        Raises:
            ApiError: busy, or the platform does not quote.
        """
        quoted = self._quote(self._nonce)
        if quoted.quoting is Quoting.BUSY:
            raise ApiError(503, "server_error", "busy", "The platform is busy with other quotes.")
        if quoted.quoting is not Quoting.OK:
            raise ApiError(
                503, "server_error", "quote_unavailable", "The platform does not quote now."
            )
        yield Head(200, ((b"content-type", MEDIA_TYPE), (b"cache-control", b"no-store")))
        yield Body(quoted.bundle, last=False)

    def usage(self) -> Usage:
        """No token of the model was used."""
        return Usage(0, 0)

    def tokens_used(self) -> int:
        """The one token that every request uses."""
        return 1

    def counts(self) -> VerificationCounts:
        """Nothing was computed."""
        return counts.combine(())
