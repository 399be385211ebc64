"""The front's parts by themselves: the replay set, the pool of capsules, the reading of bodies."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import capsule_pool
from server.capsule_pool import CapsulePool, NoCapsule
from server.control import CAPSULE_NUMBER, DROP_IDLE
from server.errors import PeerGone, ProtocolError
from server.gateway import Gateway, Limits
from server.messages import (
    Admit,
    Admitted,
    Chunk,
    End,
    Mark,
    Marked,
    Marking,
    Message,
    Quote,
    Quoted,
    Quoting,
    Refund,
    Refunded,
    Request,
    Spend,
    Spending,
    Start,
    decode,
    encode,
)
from server.metrics import Metrics
from server.replay import ReplaySet
from server.sockets import packet_pair, receive_packet, send_packet, stream_pair
from server.spending import SpentStore
from tests.server.neighbours import FakeSpentStore
from wire import ohttp
from wire.hpke import Kem

NOW = 1_800_000_000


# ---- replay set ----


def test_one_enc_is_fresh_once_until_it_expires():
    replays = ReplaySet(10)
    assert replays.mark(b"a", NOW + 60, NOW) is Marking.FRESH
    assert replays.mark(b"a", NOW + 90, NOW + 60) is Marking.REPLAYED
    assert replays.mark(b"b", NOW + 90, NOW + 60) is Marking.FRESH
    assert replays.mark(b"a", NOW + 90, NOW + 61) is Marking.FRESH


def test_a_full_set_says_so_and_forgets_nothing_early():
    replays = ReplaySet(2)
    replays.mark(b"a", NOW + 60, NOW)
    replays.mark(b"b", NOW + 50, NOW)

    assert replays.mark(b"c", NOW + 60, NOW) is Marking.FULL
    assert replays.mark(b"a", NOW + 60, NOW) is Marking.REPLAYED
    assert replays.mark(b"c", NOW + 60, NOW + 51) is Marking.FRESH
    assert len(replays) == 2


@given(st.lists(st.tuples(st.binary(max_size=2), st.integers(0, 5), st.integers(0, 9))))
def test_the_set_never_forgets_what_has_not_expired(steps):
    replays, kept, now = ReplaySet(5), {}, 0
    for enc, wait, life in steps:
        now += wait
        kept = {known: expiry for known, expiry in kept.items() if expiry >= now}
        marking = replays.mark(enc, now + life, now)
        if enc in kept:
            assert marking is Marking.REPLAYED
        elif len(kept) >= 5:
            assert marking is Marking.FULL
        else:
            assert marking is Marking.FRESH
            kept[enc] = now + life
        assert len(replays) == len(kept)


# ---- capsules ----


class FakeZygote:
    def __init__(self) -> None:
        self.sock, self.front_end = packet_pair()
        self.sock.settimeout(5)
        self.capsules: list[Any] = []

    def offer(self) -> Any:
        ours, theirs = stream_pair()
        self.capsules.append(ours)
        send_packet(self.sock, CAPSULE_NUMBER.pack(len(self.capsules)), theirs)
        theirs.close()
        return ours

    def taken(self) -> int:
        return CAPSULE_NUMBER.unpack(receive_packet(self.sock)[0])[0]


async def _pool(limit: int) -> tuple[FakeZygote, CapsulePool]:
    zygote = FakeZygote()
    pool = CapsulePool(zygote.front_end, limit)
    pool.start()
    return zygote, pool


def test_capsules_are_taken_in_turn_and_the_zygote_is_told():
    async def scenario() -> None:
        zygote, pool = await _pool(5)
        zygote.offer()
        zygote.offer()
        async with pool.capsule(), pool.capsule():
            assert (zygote.taken(), zygote.taken()) == (1, 2)
            assert pool.in_use == 2

    asyncio.run(scenario())


def test_while_enough_capsules_wait_the_next_fork_is_put_off_until_the_answer_has_begun():
    async def scenario() -> None:
        zygote, pool = await _pool(9)
        for _ in range(5):
            zygote.offer()
        zygote.sock.setblocking(False)
        async with pool.capsule() as capsule:
            await asyncio.sleep(0)
            with pytest.raises(BlockingIOError):
                zygote.taken()
            capsule.started()
            await asyncio.sleep(2 * capsule_pool.REPORT_S)
            assert zygote.taken() == 1
        async with pool.capsule():
            pass
        assert zygote.taken() == 2  # at its end at the latest
        with pytest.raises(BlockingIOError):
            zygote.taken()

    asyncio.run(scenario())


def test_beyond_the_limit_nobody_waits():
    async def scenario() -> None:
        zygote, pool = await _pool(1)
        capsule = zygote.offer()
        zygote.offer()
        async with pool.capsule():
            with pytest.raises(NoCapsule):
                async with pool.capsule():
                    pass
        assert pool.in_use == 1  # hung up, not gone
        capsule.close()
        await asyncio.sleep(0.1)
        async with pool.capsule():
            assert pool.in_use == 1

    asyncio.run(scenario())


def test_a_request_waits_for_a_capsule_to_be_forked():
    async def scenario() -> None:
        zygote, pool = await _pool(1)
        asyncio.get_running_loop().call_later(0.05, zygote.offer)
        async with pool.capsule():
            assert zygote.taken() == 1

    asyncio.run(scenario())


def test_an_idle_capsule_that_died_or_was_dropped_is_never_used():
    async def scenario() -> None:
        zygote, pool = await _pool(5)
        zygote.offer().close()
        dropped = zygote.offer()
        await asyncio.sleep(0.05)
        send_packet(zygote.sock, DROP_IDLE)
        zygote.offer().close()
        zygote.offer()
        await asyncio.sleep(0.05)
        async with pool.capsule():
            assert (zygote.taken(), zygote.taken()) == (3, 4)
        assert dropped.recv(1) == b""

    asyncio.run(scenario())


# ---- the gateway without a worker ----


class NoStore:
    async def spend(self, _: Spend) -> Spending:
        return Spending.OK


class NoRefunds:
    async def refund(self, items: Any) -> list[bytes]:
        return [b"s" * 256 for _ in items]


class EchoQuoter:
    async def quote(self, key_id: int, nonce: bytes) -> Quoted:
        return Quoted(Quoting.OK, bytes([key_id]) + nonce)


class CapsulesTell:
    """As if every request were too long to be checked."""

    async def check(self, _: Request) -> bool:
        return False


def gateway(pool: Any = None, checker: Any = None, **limits: Any) -> Gateway:
    settings = {"max_body": 100, "body_timeout_s": 0.05, "max_requests": 1, **limits}
    return Gateway(
        pool,
        ReplaySet(10),
        NoStore(),
        Metrics(),
        Limits(**settings),
        checker=checker or CapsulesTell(),
        refunder=NoRefunds(),
        quoter=EchoQuoter(),
        kem_of=lambda key_id: Kem.XWING if key_id == 1 else None,
        clock=lambda: NOW,
    )


async def post(served: Gateway, *parts: bytes, stall: bool = False) -> list[dict[str, Any]]:
    """Post a body in parts; with `stall` the last never comes."""
    left = list(parts)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.sleep(3600)
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left) or stall}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", ohttp.REQUEST_TYPE.encode())]
    await served({"type": "http", "method": "POST", "headers": headers}, receive, send)
    return sent


@pytest.mark.parametrize(
    ("parts", "stall", "status"),
    [
        ((b"x" * 60, b"x" * 41), False, 413),
        ((b"\x01", b"x"), True, 408),
        ((b"\x02" * 50,), False, 400),
        ((b"",), False, 422),
    ],
)
def test_what_is_answered_without_a_capsule(parts, stall, status):
    sent = asyncio.run(post(gateway(), *parts, stall=stall))

    assert sent[0]["status"] == status
    assert len(sent) == 2


class ScriptedCapsule:
    """A capsule that says what the test wants, and writes down what it is told."""

    def __init__(self, *script: Message) -> None:
        self.script = list(script)
        self.told: list[Message] = []
        self.ends: list[Any] = []

    async def send(self, message: Message) -> None:
        self.told.append(message)

    async def receive(self) -> Message:
        if not self.script:
            raise PeerGone
        return self.script.pop(0)

    def at_end(self, call: Any) -> None:
        self.ends.append(call)

    def started(self) -> None:
        """Nobody waits for the beginning of a scripted answer."""

    @asynccontextmanager
    async def capsule(self) -> AsyncIterator[ScriptedCapsule]:
        yield self


MARK, SPEND = Mark(b"e" * 32, NOW + 60), Spend(b"i" * 16, b"k" * 32, (b"r" * 32,))


@pytest.mark.parametrize(
    "script",
    [
        (),
        (End(),),
        (Chunk(b"x"),),
        (MARK, MARK),
        (Admit(), MARK),
        (SPEND, Admit()),
        (MARK, Request(True, b"x")),
        (Marked(Marking.FRESH),),
    ],
)
def test_a_capsule_out_of_turn_before_its_answer_is_a_503(script):
    sent = asyncio.run(post(gateway(ScriptedCapsule(*script)), b"\x01"))
    assert sent[0]["status"] == 503


PAID = (MARK, Admit(), SPEND)
REFUND = Refund(7, (b"m" * 256,))


def test_a_refund_is_answered_once_after_the_spend_and_inside_the_answer():
    capsule = ScriptedCapsule(*PAID, Start(True), Chunk(b"x"), REFUND, Chunk(b"y"), End())
    sent = asyncio.run(post(gateway(capsule), b"\x01"))

    assert capsule.told[-1] == Refunded((b"s" * 256,))
    assert b"".join(message.get("body", b"") for message in sent) == b"xy"


@pytest.mark.parametrize(
    "script",
    [
        (REFUND,),
        (MARK, Admit(), REFUND),
        (*PAID, REFUND, REFUND),
        (*PAID, Refund(7, (b"m" * 256, b"n" * 256))),
    ],
)
def test_a_refund_of_what_was_not_spent_or_of_more_or_twice_ends_the_capsule(script):
    sent = asyncio.run(post(gateway(ScriptedCapsule(*script)), b"\x01"))
    assert sent[0]["status"] == 503


def test_a_quote_is_of_the_key_id_in_the_ciphertext():
    capsule = ScriptedCapsule(*PAID, Quote(b"n" * 32), Start(True), End())
    asyncio.run(post(gateway(capsule), b"\x01"))
    assert capsule.told[-1] == Quoted(Quoting.OK, b"\x01" + b"n" * 32)


@pytest.mark.parametrize(
    "script",
    [
        (Quote(b"n" * 32),),
        (MARK, Admit(), Quote(b"n" * 32)),
        (*PAID, Quote(b"n" * 32), Quote(b"n" * 32)),
        (*PAID, REFUND, Quote(b"n" * 32)),
    ],
)
def test_a_quote_that_is_not_paid_for_or_a_second_one_ends_the_capsule(script):
    sent = asyncio.run(post(gateway(ScriptedCapsule(*script)), b"\x01"))
    assert sent[0]["status"] == 503


@pytest.mark.parametrize(
    "script", [(Start(True),), (Start(True), Chunk(b"x"), MARK), (Start(True), Start(True), End())]
)
def test_a_capsule_that_breaks_off_inside_its_answer_leaves_it_without_an_end(script):
    sent = asyncio.run(post(gateway(ScriptedCapsule(*script)), b"\x01"))

    assert sent[0]["status"] == 200
    assert all(message.get("more_body", True) for message in sent)


def test_a_place_is_given_back_when_the_capsule_has_ended_not_before():
    served = gateway(first := ScriptedCapsule(Admit(), Start(True), End()))
    asyncio.run(post(served, b"\x01"))
    assert first.told[-1] == Admitted(0)
    assert served.admitted == 1

    served._pool = second = ScriptedCapsule(Admit(), Start(True), End())
    asyncio.run(post(served, b"\x01"))
    assert second.told[-1] == Admitted(1)
    assert not second.ends
    first.ends[0]()
    assert served.admitted == 0


# ---- the spent-token store ----


@pytest.mark.parametrize(
    ("mode", "expected"), [("ok", Spending.OK), ("down", Spending.UNAVAILABLE)]
)
def test_one_spend_has_one_id_however_often_it_is_tried(tmp_path, mode, expected):
    async def scenario(path: Any) -> Spending:
        store = SpentStore(path, timeout_s=1)
        spending = await store.spend(SPEND)
        await store.close()
        return spending

    path = tmp_path / "s"
    with FakeSpentStore(path) as store:
        store.mode = mode
        assert asyncio.run(scenario(path)) is expected
        assert [order["spend_id"] for order in store.orders] == ["69" * 16] * len(store.orders)
    assert asyncio.run(scenario(tmp_path / "absent")) is Spending.UNAVAILABLE


# ---- what the front can know ----


def _modules_of(role: str) -> set[str]:
    command = f"import sys; from server import {role}; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", command], check=True, capture_output=True, text=True
    )
    return set(ran.stdout.split())


def test_the_front_has_none_of_what_opens_reads_or_computes_a_request():
    absent = {"server.keeper", "server.capsule", "server.openai", "tokenizers", "torch"}
    assert not _modules_of("front") & absent


def test_the_keeper_has_neither_http_nor_an_application_nor_torch():
    absent = {"httpx", "uvicorn", "starlette", "asyncio", "server.openai", "tokenizers", "torch"}
    assert not _modules_of("keeper") & absent


def test_the_launcher_forks_before_anything_large_is_imported():
    absent = {"torch", "tokenizers", "transformers", "numpy", "httpx", "uvicorn"}
    assert not _modules_of("launcher") & absent


def test_no_message_to_the_front_has_room_for_a_key():
    # What a capsule tells the front: hashes, numbers, and bytes that were sealed before.
    fields = {
        kind.__name__: set(kind.__annotations__) - {"type"}
        for kind in (Mark, Admit, Spend, Start, Chunk, End, Refund)
    }
    assert fields == {
        "Mark": {"enc", "expiry"},
        "Admit": set(),
        "Spend": {"spend_id", "key_id", "rows"},
        "Start": {"chunked"},
        "Chunk": {"data"},
        "End": set(),
        "Refund": {"truncated_key_id", "messages"},
    }


# ---- messages ----

MESSAGES = [
    Request(True, b"abc"),
    Request(False, b""),
    MARK,
    Mark(b"e" * 1120, 2**63),
    Marked(Marking.FULL),
    Admit(),
    Admitted(1),
    SPEND,
    Spend(b"i" * 16, b"k" * 32, (b"r" * 32,) * 8),
    Refund(7, ()),
    Refund(7, (b"m" * 256,) * 8),
    Refunded((b"s" * 256,)),
    Start(False),
    Chunk(os.urandom(9)),
    End(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was(message):
    assert decode(encode(message)[4:]) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_of_fixed_length_is_refused_when_cut_or_longer(message):
    frame = encode(message)[4:]
    if isinstance(message, Request | Chunk):
        return
    for changed in (frame + b"\0", frame[:-1]):
        try:
            assert decode(changed) != message
        except ProtocolError:
            continue


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_protocol_error(frame):
    try:
        assert encode(decode(frame))[4:] == frame
    except ProtocolError:
        return
