"""The front's batches: mixed, bound to what was spent, and never in the way of an answer."""

from __future__ import annotations

import asyncio
import os

import httpx
import pytest

from server import refunds
from server.messages import Refund, Spend
from server.refunds import Refunds, items_of
from wire.refund import MAX_BATCH, REFUSED, RefundItem, decode_batch, tickets


class Issuer:
    """Answers a batch with each message's first byte, and keeps what it was sent."""

    def __init__(self) -> None:
        self.batches: list[tuple[RefundItem, ...]] = []
        self.statuses: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        items = decode_batch(request.content)
        self.batches.append(items)
        assert set(request.headers) <= {
            *("host", "content-type", "content-length", "connection"),
            *("accept", "accept-encoding", "user-agent"),
        }
        status = self.statuses.pop(0) if self.statuses else 200
        content = b"".join(item.request.blinded[:1] * 256 for item in items)
        return httpx.Response(status, content=content if status == 200 else b"")


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def desk(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> Refunds:
    monkeypatch.setattr(refunds, "TICK_S", 0.02)
    desk = Refunds("http://issuer")
    desk._client = httpx.AsyncClient(transport=httpx.MockTransport(issuer))
    return desk


def paid(count: int, messages: int | None = None) -> tuple[Spend, Refund]:
    rows = tuple(os.urandom(32) for _ in range(count))
    blinded = tuple(bytes([index + 1]) * 256 for index in range(messages or count))
    return Spend(os.urandom(16), os.urandom(32), rows), Refund(7, blinded)


def test_requests_of_one_tick_go_as_one_batch_and_each_gets_its_own(
    desk: Refunds, issuer: Issuer
) -> None:
    spends = [paid(count) for count in (1, 3, 7)]

    async def scenario() -> list[list[bytes]]:
        return await asyncio.gather(*(desk.refund(items_of(*spend)) for spend in spends))

    answers = asyncio.run(scenario())
    assert [len(batch) for batch in issuer.batches] == [11]
    for (_, refund), signatures in zip(spends, answers, strict=True):
        assert signatures == list(refund.messages)


def test_the_order_of_a_batch_is_not_that_of_the_requests(desk: Refunds, issuer: Issuer) -> None:
    items = [item for _ in range(8) for item in items_of(*paid(8))]
    asyncio.run(desk.refund(items))
    assert list(issuer.batches[0]) != items
    assert set(issuer.batches[0]) == set(items)


def test_a_ticket_is_of_a_row_that_was_spent(desk: Refunds, issuer: Issuer) -> None:
    spend, refund = paid(4, 2)
    asyncio.run(desk.refund(items_of(spend, refund)))
    sent = {item.ticket for item in issuer.batches[0]}
    assert sent == set(tickets(spend.spend_id, spend.key_id, spend.rows)[:2])
    content = b"".join(item.ticket + item.request.encode() for item in issuer.batches[0])
    for secret in (spend.spend_id, *spend.rows):
        assert secret not in content


def test_nothing_due_waits_for_the_tick_and_asks_nothing(desk: Refunds, issuer: Issuer) -> None:
    assert asyncio.run(desk.refund([])) == []
    assert issuer.batches == []


def test_a_large_tick_is_several_batches(desk: Refunds, issuer: Issuer) -> None:
    items = [item for _ in range(9) for item in items_of(*paid(8))]
    signatures = asyncio.run(desk.refund(items))
    assert sorted(map(len, issuer.batches)) == [8, MAX_BATCH]
    assert REFUSED not in signatures


def test_a_lost_answer_is_asked_for_again_with_the_same_bytes(
    desk: Refunds, issuer: Issuer
) -> None:
    issuer.statuses = [503]
    assert REFUSED not in asyncio.run(desk.refund(items_of(*paid(2))))
    assert issuer.batches[0] == issuer.batches[1]


def test_an_issuer_that_is_down_costs_the_refund_and_not_the_answer(
    desk: Refunds, issuer: Issuer
) -> None:
    issuer.statuses = [503] * 2
    assert asyncio.run(desk.refund(items_of(*paid(2)))) == [REFUSED] * 2


def test_a_client_that_goes_takes_nobody_else_with_it(desk: Refunds) -> None:
    async def scenario() -> list[bytes]:
        gone = asyncio.create_task(desk.refund(items_of(*paid(1))))
        stays = asyncio.create_task(desk.refund(items_of(*paid(1))))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert REFUSED not in asyncio.run(scenario())
