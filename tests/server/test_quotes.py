"""A nonce's way from a client to the platform: paid for, in turn, and to no other end."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from attestation.bundle import MAX_ENCODED, Bundle
from attestation.report_data import report_data
from attestation.simulated_quote import SimulatedQuote, split
from server import quotes as quotes_module
from server.errors import PeerGone, ProtocolError
from server.fresh_quote import QuotePlan
from server.messages import MAX_BUNDLE, Quote, Quoted, Quoting, decode, encode
from server.openai.errors import ApiError
from server.openai.outputs import Body, Head
from server.quotes import Quotes, answer_order
from server.sockets import stream_pair
from tests.server import wallet
from tests.server.conftest import Worker, until
from wire import bhttp, inner

NONCE = b"\x6e" * 32
BUNDLE = b"a bundle"


def test_a_bundle_is_as_long_as_a_client_takes_one():
    assert MAX_BUNDLE == MAX_ENCODED


# ---- frames ----


def test_a_quote_is_one_nonce_and_its_answer_one_bundle_or_none():
    for message in (Quote(NONCE), Quoted(Quoting.OK, BUNDLE), Quoted(Quoting.BUSY)):
        assert decode(encode(message)[4:]) == message
    for body in (
        b"\x0e" + bytes(31),
        b"\x0e" + bytes(33),
        b"\x0f",
        b"\x0f\x00",
        b"\x0f\x01x",
        b"\x0f\x03",
        b"\x0f\x00" + bytes(MAX_BUNDLE + 1),
    ):
        with pytest.raises(ProtocolError):
            decode(body)


# ---- the plan ----


def test_a_plan_asks_once_and_yields_the_bundle_without_a_receipt():
    asked = []

    def quote(nonce: bytes) -> Quoted:
        asked.append(nonce)
        return Quoted(Quoting.OK, BUNDLE)

    plan = QuotePlan(b"nonce=" + NONCE.hex().encode(), quote)
    assert not asked
    head, body = plan.run(None, lambda: 0, 0)
    assert asked == [NONCE]
    assert isinstance(head, Head)
    assert (b"content-type", b"application/cmw+json") in head.headers
    assert body == Body(BUNDLE, last=False)
    assert (plan.tokens_needed, plan.tokens_used(), plan.streamed) == (1, 1, False)
    assert plan.usage().prompt_tokens == plan.counts().checks == 0


@pytest.mark.parametrize(
    ("quoting", "code"), [(Quoting.BUSY, "busy"), (Quoting.UNAVAILABLE, "quote_unavailable")]
)
def test_a_quote_that_is_not_to_be_had_is_a_503(quoting, code):
    plan = QuotePlan(b"nonce=" + NONCE.hex().encode(), lambda _: Quoted(quoting))
    with pytest.raises(ApiError) as caught:
        list(plan.run(None, lambda: 0, 0))
    assert (caught.value.status, caught.value.code) == (503, code)


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"nonce=",
        b"nonce=" + b"6E" * 32,
        b"nonce=" + b"6e" * 31,
        b"nonce=" + b"6e" * 33,
        b"nonce=" + b"6e" * 32 + b"\n",
        b"nonce=" + b"6e" * 32 + b"&nonce=" + b"6e" * 32,
        b"Nonce=" + b"6e" * 32,
    ],
)
def test_a_query_that_is_not_one_nonce_is_refused_before_anything_is_paid(query):
    with pytest.raises(ApiError) as caught:
        QuotePlan(query, lambda _: pytest.fail("asked"))
    assert (caught.value.status, caught.value.code) == (400, "invalid_nonce")


# ---- between front and launcher ----


@contextmanager
def launcher(quote: Callable[[int, bytes], bytes]) -> Iterator[socket.socket]:
    """A launcher that answers orders until its front has gone; gives the front's end."""
    ours, theirs = stream_pair()

    def serve() -> None:
        try:
            while True:
                theirs.recv(1, socket.MSG_PEEK)
                answer_order(theirs, quote)
        except PeerGone:
            return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join(10)
        theirs.close()
        assert not thread.is_alive()


def test_an_order_is_answered_with_the_bundle_over_its_nonce():
    with launcher(lambda key_id, nonce: bytes([key_id]) + nonce) as sock:
        served = Quotes(sock, most=1, pause_s=0)
        assert asyncio.run(served.quote(7, NONCE)) == Quoted(Quoting.OK, b"\x07" + NONCE)


@pytest.mark.parametrize("bundle", [b"", bytes(MAX_BUNDLE + 1)], ids=["none", "too long"])
def test_no_bundle_is_told_as_such(bundle):
    with launcher(lambda *_: bundle) as sock:
        served = Quotes(sock, most=1, pause_s=0)
        assert asyncio.run(served.quote(7, NONCE)) == Quoted(Quoting.UNAVAILABLE)


def test_the_longest_bundle_arrives_whole():
    bundle = os.urandom(MAX_BUNDLE)
    with launcher(lambda *_: bundle) as sock:
        assert asyncio.run(Quotes(sock, most=1, pause_s=0).quote(7, NONCE)).bundle == bundle


def test_one_at_a_time_a_few_wait_and_the_rest_is_busy():
    inside: list[int] = []
    most_inside = []

    def quote(_: int, nonce: bytes) -> bytes:
        inside.append(1)
        most_inside.append(len(inside))
        inside.pop()
        return nonce

    async def scenario(sock: socket.socket) -> list[Quoted]:
        served = Quotes(sock, most=3, pause_s=0)
        nonces = [bytes([n]) * 32 for n in range(5)]
        return await asyncio.gather(*(served.quote(1, nonce) for nonce in nonces))

    with launcher(quote) as sock:
        answers = asyncio.run(scenario(sock))
    assert answers[:3] == [Quoted(Quoting.OK, bytes([n]) * 32) for n in range(3)]
    assert answers[3:] == [Quoted(Quoting.BUSY)] * 2
    assert set(most_inside) == {1}


def test_there_is_a_pause_between_two():
    async def scenario(sock: socket.socket) -> float:
        served = Quotes(sock, most=1, pause_s=0.15)
        started = asyncio.get_running_loop().time()
        await served.quote(1, NONCE)
        await served.quote(1, NONCE)
        return asyncio.get_running_loop().time() - started

    with launcher(lambda _, nonce: nonce) as sock:
        assert asyncio.run(scenario(sock)) >= 0.15


def test_the_answer_to_a_client_that_has_gone_is_not_given_to_the_next():
    go_on = threading.Event()

    def quote(_: int, nonce: bytes) -> bytes:
        go_on.wait(10)
        return nonce

    async def scenario(sock: socket.socket) -> Quoted:
        served = Quotes(sock, most=1, pause_s=0)
        gone = asyncio.ensure_future(served.quote(1, bytes(32)))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        go_on.set()
        return await served.quote(1, NONCE)

    with launcher(quote) as sock:
        assert asyncio.run(scenario(sock)) == Quoted(Quoting.OK, NONCE)


def test_a_launcher_that_has_gone_or_says_too_much():
    async def ask(data: bytes) -> Quoted:
        ours, theirs = stream_pair()
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with ours, theirs:
            return await Quotes(ours, most=1, pause_s=0).quote(1, NONCE)

    for cut in (b"", b"\0\0", b"\0\0\0\x05abcd"):
        assert asyncio.run(ask(cut)) == Quoted(Quoting.UNAVAILABLE)
    with pytest.raises(ProtocolError):
        asyncio.run(ask((MAX_BUNDLE + 1).to_bytes(4)))


def test_the_launcher_waits_for_nobody_and_notices_who_has_gone():
    ours, theirs = stream_pair()
    answer_order(theirs, lambda *_: pytest.fail("nothing was asked"))
    ours.sendall(b"\x01" + NONCE)
    ours.close()
    with pytest.raises(PeerGone):
        answer_order(theirs, lambda *_: BUNDLE)
    with pytest.raises(PeerGone):
        answer_order(theirs, lambda *_: BUNDLE)
    theirs.close()


def test_an_order_has_no_room_for_anything_but_a_key_id_and_a_nonce():
    assert quotes_module._ORDER.size == 1 + 32


# ---- a real worker ----


def ask(worker: Worker, nonce: bytes | str, *, tokens: int = 1) -> bhttp.Response:
    text = nonce if isinstance(nonce, str) else f"nonce={nonce.hex()}"
    request = inner.build_request(
        method=b"GET",
        path=b"/v1/attestation?" + text.encode(),
        body=b"",
        date=int(time.time()) // 60 * 60,
        tokens=tuple(wallet.draw() for _ in range(tokens)),
    )
    sent = wallet.send(wallet.config_of(worker.document), request)
    return sent.open(worker.post(sent).content)


def report_data_of(bundle: Bundle) -> bytes:
    """What the platform signed."""
    return SimulatedQuote.decode(split(bundle.quote)[0]).report_data


@pytest.fixture(scope="module")
def quick(new_neighbours) -> Iterator[Worker]:
    """A worker that needs no rest between quotes."""
    from tests.server.conftest import running_worker  # noqa: PLC0415

    with running_worker(new_neighbours(), quote_pause_s=0.0) as worker:
        worker.wait_for("WorkerReady")
        until(worker.serves, worker=worker)
        yield worker


def test_the_nonce_reaches_the_platform(quick):
    for nonce in (NONCE, os.urandom(32)):
        response = ask(quick, nonce)
        assert response.status == 200
        assert dict(response.headers)[b"content-type"] == b"application/cmw+json"
        bundle = Bundle.decode(response.content)
        assert bundle.key_document == quick.document.encode()
        assert report_data_of(bundle) == report_data(quick.document.digest, (), nonce)


def test_it_costs_a_token_and_without_one_the_platform_is_not_asked(quick):
    before = len(quick.neighbours.spent.orders)
    assert ask(quick, NONCE, tokens=0).status == 401
    assert len(quick.neighbours.spent.orders) == before
    assert ask(quick, NONCE).status == 200
    assert len(quick.neighbours.spent.orders) == before + 1


def test_a_nonce_that_is_none_costs_nothing(quick):
    before = len(quick.neighbours.spent.orders)
    assert ask(quick, "nonce=6e").status == 400
    assert len(quick.neighbours.spent.orders) == before
