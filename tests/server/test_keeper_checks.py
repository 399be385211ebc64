"""The front's questions to the keeper: what is asked, in which order, and what bounds them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from server import keeper_checks
from server.errors import Rejected
from server.keeper_checks import MAX_UNCHECKED, WINDOW, KeeperChecks, Lane, question
from server.keeper_messages import MAX_CHECKED, CheckRequest, Packet
from server.messages import Request
from server.sockets import packet_pair, receive_packet, send_packet
from wire import varint
from wire.chunks import MAX_CHUNK

XWING = b"\x01\x64\x7a\x00\x01\x00\x01"
ENC = b"e" * 1120
CHUNK = varint.encode(40) + b"c" * 40


def status_of(request: Request) -> int:
    with pytest.raises(Rejected) as rejected:
        question(request)
    return rejected.value.status


def test_the_first_chunk_alone_is_asked_about():
    packet = question(Request(True, XWING + ENC + CHUNK + b"whatever follows"))
    assert packet == CheckRequest(True, False, XWING, ENC, b"c" * 40).encode()
    packet = question(Request(True, XWING + ENC + b"\0" + b"f" * 16))
    assert packet == CheckRequest(True, True, XWING, ENC, b"f" * 16).encode()
    packet = question(Request(False, XWING + ENC + b"p" * MAX_CHECKED))
    assert packet == CheckRequest(False, False, XWING, ENC, b"p" * MAX_CHECKED).encode()


@pytest.mark.parametrize(
    ("chunked", "body", "status"),
    [
        (True, b"\x01", 422),
        (True, b"\x01\x64\x7b\x00\x01\x00\x01" + ENC + CHUNK, 400),
        (True, XWING[:-1] + b"\x09" + ENC + CHUNK, 400),
        (True, XWING + ENC[:-1], 422),
        (True, XWING + ENC, 422),
        (True, XWING + ENC + CHUNK[:-1], 422),
        (True, XWING + ENC + varint.encode(16) + b"c" * 16, 422),
        (True, XWING + ENC + varint.encode(MAX_CHUNK + 17) + bytes(MAX_CHUNK + 17), 422),
        (True, XWING + ENC + b"\0" + bytes(MAX_CHUNK + 17), 422),
        (True, XWING + ENC + b"\0" + bytes(15), 422),
        (False, XWING + ENC + bytes(15), 422),
    ],
)
def test_what_needs_no_key_to_be_refused_is_not_asked(chunked, body, status):
    assert status_of(Request(chunked, body)) == status


def test_one_piece_too_long_for_a_packet_is_left_to_a_capsule():
    assert question(Request(False, XWING + ENC + bytes(MAX_CHECKED + 1))) is None


def garbage() -> Request:
    return Request(True, XWING + os.urandom(1120) + CHUNK)


def with_checks(
    scenario: Callable[[KeeperChecks, socket.socket, list[str]], Awaitable[Any]],
) -> Any:
    async def run() -> Any:
        front, keeper = packet_pair()
        keeper.setblocking(False)
        ended: list[str] = []
        checks = KeeperChecks(front, lambda: ended.append("ended"))
        checks.start()
        try:
            return await scenario(checks, keeper, ended)
        finally:
            asyncio.get_running_loop().remove_reader(front.fileno())
            front.close()
            keeper.close()

    return asyncio.run(run())


def received(keeper: socket.socket) -> list[bytes]:
    packets = []
    while True:
        try:
            packets.append(receive_packet(keeper)[0])
        except BlockingIOError:
            return packets


def test_answers_go_to_those_who_asked_in_order_even_if_one_has_gone():
    async def scenario(checks: KeeperChecks, keeper: socket.socket, _: list[str]) -> list[Any]:
        asking = [asyncio.ensure_future(checks.check(garbage())) for _ in range(4)]
        await asyncio.sleep(0)
        asking[1].cancel()
        for answer in (Packet.AUTHENTIC, Packet.AUTHENTIC, Packet.BAD_ENC, Packet.UNKNOWN_KEY):
            send_packet(keeper, bytes([answer]))
        return await asyncio.gather(*asking, return_exceptions=True)

    first, second, third, fourth = with_checks(scenario)
    assert first is True
    assert isinstance(second, asyncio.CancelledError)
    assert (third.status, fourth.status) == (422, 400)


def test_the_keeper_has_a_window_of_questions_and_the_rest_wait_their_turn():
    async def scenario(checks: KeeperChecks, keeper: socket.socket, _: list[str]) -> None:
        requests = [garbage() for _ in range(2 * WINDOW + 5)]
        asking = [asyncio.ensure_future(checks.check(request)) for request in requests]
        seen: list[bytes] = []
        while len(seen) < len(requests):
            await asyncio.sleep(0.01)
            now = received(keeper)
            assert 0 < len(now) <= WINDOW
            seen += now
            for _ in now:
                send_packet(keeper, bytes([Packet.BAD_ENC]))
        assert seen == [question(request) for request in requests]
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert [answer.status for answer in answers] == [422] * len(requests)

    with_checks(scenario)


def test_more_than_may_wait_are_turned_away_and_nobody_who_waits(monkeypatch):
    monkeypatch.setattr(keeper_checks, "MAX_WAITING", 3)

    async def scenario(checks: KeeperChecks, keeper: socket.socket, _: list[str]) -> None:
        asking = [asyncio.ensure_future(checks.check(garbage())) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Rejected) as rejected:
            await checks.check(garbage())
        assert rejected.value.status == 503
        for _ in asking:
            send_packet(keeper, bytes([Packet.AUTHENTIC]))
        assert await asyncio.gather(*asking) == [True] * 3

    with_checks(scenario)


def test_without_its_keeper_the_front_ends_and_says_503_until_then():
    async def scenario(checks: KeeperChecks, keeper: socket.socket, ended: list[str]) -> None:
        asking = asyncio.ensure_future(checks.check(garbage()))
        await asyncio.sleep(0)
        keeper.close()
        for check in (asking, checks.check(garbage())):
            with pytest.raises(Rejected) as rejected:
                await check
            assert rejected.value.status == 503
        assert ended == ["ended"]

    with_checks(scenario)


def test_the_lane_of_the_unchecked_lets_one_in_after_another_and_few_wait():
    async def scenario() -> None:
        lane, order = Lane(), []
        await lane.enter()

        async def pass_through(number: int) -> None:
            await lane.enter()
            order.append(number)
            lane.leave()

        waiting = [asyncio.ensure_future(pass_through(n)) for n in range(MAX_UNCHECKED)]
        await asyncio.sleep(0)
        with pytest.raises(Rejected) as rejected:
            await lane.enter()
        assert (rejected.value.status, order) == (503, [])
        lane.leave()
        await asyncio.gather(*waiting)
        assert order == list(range(MAX_UNCHECKED))
        await lane.enter()

    asyncio.run(scenario())
