"""One encapsulated request to one node, and the authenticated answer that comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from attestation.verifier.node import VerifiedNode
from client.errors import RelayError, RelayTimeout, ResponseCut, ResponseForged
from client.passage import Carriage, Passage
from wire import bhttp, inner, ohttp, padding
from wire.errors import Truncated, WireError
from wire.ohttp import PreparedRequest
from wire.privacy_pass import Token
from wire.refund import SIGNATURES_FIELD, BlindedMessages, decode_signatures

TIMEOUT = httpx.Timeout(connect=5.0, read=120.0, write=30.0, pool=10.0)
"""Seconds. The read timeout bounds the silence before the first byte and between two chunks: the
time a long prompt may take to prefill."""


@dataclass(frozen=True)
class InnerRequest:
    """What one try sends: everything in it is inside the encapsulation."""

    method: bytes
    path: bytes
    body: bytes
    date: int
    """Unix seconds, rounded to the minute."""
    tokens: Sequence[Token]
    blinded: BlindedMessages | None = None
    """As many as tokens, for what the request will not use."""

    def message(self) -> bhttp.Request:
        """Return it as an HTTP message."""
        return inner.build_request(
            method=self.method,
            path=self.path,
            body=self.body,
            date=self.date,
            tokens=self.tokens,
            blinded=self.blinded,
        )

    def encode(self) -> bytes:
        """Encode as Binary HTTP, zero-padded to a request class."""
        request = self.message()
        length = len(bhttp.encode_request(request))
        return bhttp.encode_request(
            request, padded_length=padding.padded_length(length, padding.REQUEST_CLASSES)
        )


@dataclass(frozen=True)
class Relay:
    """One relay, asked through a bare transport.

    An HTTP client around it would add fields, cookies and redirects, and a step for each chunk.
    """

    url: str
    transport: httpx.AsyncBaseTransport

    async def post(self, node: str, encapsulated_request: bytes) -> httpx.Response:
        """Send a request to `node`; the response's content is not yet read.

        Raises:
            RelayTimeout, RelayError: there is no response.
        """
        request = httpx.Request(
            "POST",
            f"{self.url.rstrip('/')}/{node}",
            content=encapsulated_request,
            headers={"content-type": ohttp.CHUNKED_REQUEST_TYPE, "incremental": "?1"},
            extensions={"timeout": TIMEOUT.as_dict()},
        )
        try:
            return await self.transport.handle_async_request(request)
        except httpx.TimeoutException:
            raise RelayTimeout("the relay did not answer in time") from None
        except httpx.HTTPError:
            raise RelayError("the relay cannot be reached") from None


@dataclass(frozen=True)
class Salts:
    """The two HPKE exports that salt the receipt's hashes, 32 bytes each."""

    request: bytes
    response: bytes


class Exchange:
    """A request under way. `open` sends it and reads the response's head; then read `contents`."""

    def __init__(
        self,
        node: VerifiedNode,
        response: httpx.Response,
        opener: ohttp.ChunkedResponseOpener,
        carriage: Carriage,
    ) -> None:
        self.node = node
        self._carriage = carriage
        self.salts = Salts(
            request=opener.export(ohttp.REQUEST_SALT_LABEL, ohttp.SALT_LENGTH),
            response=opener.export(ohttp.RESPONSE_SALT_LABEL, ohttp.SALT_LENGTH),
        )
        self._response = response
        stream = response.stream  # the content as it comes: `Response.aiter_raw` adds nothing to it
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - an asynchronous client's
        self._pieces = aiter(stream)
        self._opener = opener
        self._decoder = bhttp.ResponseDecoder()
        self._early: list[bhttp.Event] = []  # what came together with the head
        self._finished = False
        self.head: bhttp.Head
        self._trailers: bhttp.Fields = ()

    @classmethod
    async def open(
        cls,
        relay: Relay,
        node: VerifiedNode,
        request: InnerRequest,
        prepared: PreparedRequest,
        passage: Passage | None = None,
    ) -> Exchange:
        """Send `request` to `node` through the relay, as `prepared`, and read the inner head.

        What the relay sees of it is noted in `passage`, if somebody will ask.

        Raises:
            RelayError: an answer in clear, or none.
            ResponseCut: the response ended early.
            ResponseForged: it does not open, or is not Binary HTTP.
        """
        encapsulated_request, opener = prepared.encapsulate(request.encode())
        carriage = (passage or Passage()).carry(node.key_document.node, encapsulated_request)
        response = await relay.post(node.key_document.node, encapsulated_request)
        exchange = cls(node, response, opener, carriage)
        try:
            await exchange._check_outer()
            exchange.head = await exchange._read_head()
        except BaseException:
            await exchange.close()
            raise
        return exchange

    async def contents(self) -> AsyncIterator[bytes]:
        """Yield the content of the inner response, chunk by authenticated chunk.

        Ends normally only when the final chunk was opened and the message was complete.

        Raises:
            RelayError, ResponseCut, ResponseForged: as `open` does.
        """
        # One loop on purpose: each generator more is a microsecond for each token.
        with _failures():
            for data in self._contents_of(self._early):
                yield data
            async for encapsulated in self._pieces:
                self._count(encapsulated)
                for plaintext in self._opener.feed(encapsulated):
                    for data in self._contents_of(self._decoder.feed(plaintext)):
                        yield data
            if not self._finished:
                for data in self._contents_of(self._finish()):
                    yield data

    async def body(self) -> bytes:
        """Return the whole content; raises as `contents` does."""
        return b"".join([part async for part in self.contents()])

    def signatures(self, count: int) -> tuple[bytes, ...]:
        """Return the blind signatures for `count` messages, after the end; none if none came.

        Raises:
            ResponseForged: not as many, or unreadable.
        """
        value = dict(self._trailers).get(SIGNATURES_FIELD)
        if value is None:
            return ()
        try:
            return decode_signatures(value, count)
        except WireError:
            raise ResponseForged("the refund cannot be read") from None

    async def close(self) -> None:
        """Drop the connection; the worker stops computing."""
        await self._response.aclose()

    async def _check_outer(self) -> None:
        response = self._response
        if response.status_code != httpx.codes.OK:
            raise RelayError(
                f"the relay answered {response.status_code} outside the encapsulation",
                status=response.status_code,
            )
        if response.headers.get("content-type") != ohttp.CHUNKED_RESPONSE_TYPE:
            raise ResponseForged("the response is not of the chunked OHTTP type")

    async def _read_head(self) -> bhttp.Head:
        with _failures():
            async for encapsulated in self._pieces:
                self._count(encapsulated)
                for plaintext in self._opener.feed(encapsulated):
                    self._early += self._decoder.feed(plaintext)
                if self._early:
                    break
            else:
                self._early += self._finish()
        head = self._early.pop(0)
        if not isinstance(head, bhttp.Head):
            raise ResponseForged("the response does not begin with its head")
        return head

    def _count(self, encapsulated: bytes) -> None:
        self._carriage.received += len(encapsulated)
        self._carriage.pieces += 1

    def _finish(self) -> list[bhttp.Event]:
        # The final chunk runs to the end of the stream, so only then can it be opened.
        self._finished = True
        return [*self._decoder.feed(self._opener.finish()), *self._decoder.finish()]

    def _contents_of(self, events: list[bhttp.Event]) -> list[bytes]:
        contents = []
        for event in events:
            if isinstance(event, bhttp.Content):
                contents.append(event.data)
            elif isinstance(event, bhttp.End):
                self._trailers = event.trailers
        return contents


@contextmanager
def _failures() -> Iterator[None]:
    """Raise what can go wrong while a response is read as errors of the client."""
    try:
        yield
    except Truncated:
        raise ResponseCut("the response ended before its authenticated end") from None
    except WireError as error:
        raise ResponseForged(f"the response is refused: {error}") from None
    except httpx.TimeoutException:
        raise RelayTimeout("the response stalled") from None
    except httpx.HTTPError:
        raise ResponseCut("the connection broke before the response's end") from None
