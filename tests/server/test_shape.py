"""What the sizes and the rhythm of an answer tell: its class, and with a tick no rhythm."""

from __future__ import annotations

import itertools
import time

import httpx
import pytest

from server.answers import (
    busy,
    malformed,
    of_error,
    payment_unavailable,
    replayed,
    token_required,
    too_few_tokens,
    wrong_date,
)
from server.openai.errors import ContextLengthExceeded, unforeseen
from server.responses import END_SIZE, responder
from server.ticks import TickedResponder
from tests.server import wallet
from tests.server.conftest import until
from wire import bhttp, ohttp, varint
from wire.hpke import Aead, Kdf, Kem, PrivateKey, Suite, setup_recipient, setup_sender
from wire.padding import EVENT_SIZE, PADDING_EVENT

PIECE = EVENT_SIZE + 2 + 16
"""A piece of an event as a chunk: the BHTTP length before it, the AEAD's tag after it."""

TICK_S = 0.1


class Wire:
    """What leaves a capsule."""

    def __init__(self) -> None:
        self.data = b""

    def start(self, *, chunked: bool) -> None:
        pass

    def chunk(self, data: bytes) -> None:
        self.data += data

    def end(self) -> None:
        pass


def lengths(encapsulated_response: bytes) -> list[int]:
    """The chunk lengths anyone can read off a chunked response; the last is the final chunk's."""
    found, at = [], 16
    while at < len(encapsulated_response):
        length, at = varint.decode(encapsulated_response, at)
        found.append(length or len(encapsulated_response) - at)
        at += found[-1]
    return found


def answering(wire, *, chunked=True):
    suite = Suite(Kem.X25519, Kdf.HKDF_SHA256, Aead.AES_128_GCM)
    key = PrivateKey.generate(Kem.X25519, bytes(32))
    enc, _ = setup_sender(suite, key.public_bytes, b"")
    return responder(wire, setup_recipient(suite, key, enc, b""), enc, bytes(16), chunked=chunked)


ANSWERS = {
    "empty": bhttp.Response(200, (), b""),
    "a short completion": bhttp.Response(200, ((b"content-type", b"a/b"),), b"x" * 700),
    "a longer one": bhttp.Response(200, ((b"content-type", b"a/b"),), b"x" * 3900),
    "busy": busy(),
    "internal error": of_error(unforeseen(ValueError())),
    "malformed": malformed(None),
    "too long": of_error(ContextLengthExceeded(context=512, prompt=600, completion=9)),
    "unpaid": token_required(wallet.accepted_issuer()),
    "too few": too_few_tokens(wallet.accepted_issuer(), 8),
    "no store": payment_unavailable(),
    "replayed": replayed(),
    "wrong date": wrong_date(1_700_000_000),
}


@pytest.mark.parametrize("chunked", [True, False])
def test_whatever_is_answered_whole_has_the_length_of_its_class(chunked):
    sizes = {}
    for name, response in ANSWERS.items():
        wire = Wire()
        answering(wire, chunked=chunked).whole(response)
        sizes[name] = len(wire.data)
    assert len(set(sizes.values())) == 1, sizes


@pytest.mark.parametrize("length", [5_000, 20_000, 100_000])
def test_the_chunks_of_a_long_answer_tell_its_class_only(length):
    seen = set()
    for more in (0, 1, 300, 2000):
        wire = Wire()
        answering(wire).whole(bhttp.Response(200, (), b"x" * (length + more)))
        seen.add(tuple(lengths(wire.data)))
    assert len(seen) == 1


@pytest.mark.parametrize("payload", [b"", b"x" * 300, b"x" * 700, b"x" * 60_000])
def test_every_piece_of_every_event_has_one_size(payload):
    wire = Wire()
    responder = answering(wire)
    responder.begin(200, ())
    responder.event(payload)
    assert set(lengths(wire.data)[1:]) == {PIECE}


def test_events_of_a_real_worker_have_one_size_whatever_they_hold(worker):
    shapes = []
    for prompt in ("", "x", "x" * 250, "ü" * 30, '"' * 120):
        sent = worker.encapsulate({"stream": True, "prompt": prompt}, tokens=(wallet.draw(),))
        shapes.append(lengths(worker.post(sent).content))
    _, *events, last, done, final = shapes[0]
    assert set(events) == {PIECE} == {done}
    assert last == 4096 + 2 + 16
    assert final == END_SIZE + 16
    assert all(shape == shapes[0] for shape in shapes), shapes

    sent = worker.encapsulate({"stream": True, "prompt": "x" * 2000}, tokens=(wallet.draw(),))
    long = lengths(worker.post(sent).content)
    assert set(long) == set(shapes[0]), "longer events are more pieces, not longer ones"
    assert len(long) > len(shapes[0])


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Pieces:
    """A responder that notes when what left."""

    begun = True

    def __init__(self, clock: Clock) -> None:
        self.clock, self.sent = clock, []

    def begin(self, *_: object) -> None:
        self.sent.append((self.clock(), "begin"))

    def piece(self, piece: bytes) -> None:
        name = "nothing" if piece == PADDING_EVENT else piece.split(b"data: ")[-1][:1].decode()
        self.sent.append((self.clock(), name))

    def end(self, trailers: object) -> None:
        assert trailers == ()
        self.sent.append((self.clock(), "end"))


@pytest.fixture
def ticked():
    clock = Clock()
    pieces = Pieces(clock)
    return TickedResponder(pieces, 1.0, clock=clock, sleep=clock.sleep), pieces, clock


def test_one_piece_leaves_a_tick_whether_there_is_an_event_or_not(ticked):
    responder, pieces, clock = ticked
    assert responder.on_wait() is None
    responder.begin(200, ())
    responder.event(b"a")
    for payload in (b"b", b"c"):  # three at once
        responder.event(payload)
    for _ in range(20):
        clock.now += 0.25
        responder.on_wait()
    responder.event(b"d")
    responder.end()
    expected = ["begin", "a", "b", "c", "nothing", "nothing", "nothing", "d", "end"]
    assert [name for _, name in pieces.sent] == expected
    assert [at for at, _ in pieces.sent] == [100, 100, 101, 102, 103, 104, 105, 106, 107]


def test_what_is_late_keeps_the_grid_and_missed_ticks_are_not_made_up(ticked):
    responder, pieces, clock = ticked
    responder.begin(200, ())
    responder.event(b"a")
    clock.now += 3.7  # the capsule was busy
    assert responder.on_wait() == pytest.approx(0.3)
    assert responder.on_wait() == pytest.approx(0.3)
    clock.now += 0.3
    responder.on_wait()
    assert [at for at, _ in pieces.sent[1:]] == pytest.approx([100, 103.7, 104])


def test_a_long_event_takes_several_ticks_and_a_cut_stream_is_sent_without_an_end(ticked):
    responder, pieces, clock = ticked
    responder.begin(200, ())
    responder.event(b"x" * 1500)
    responder.cut()
    assert len(pieces.sent) == 1 + 3
    assert [b[0] - a[0] for a, b in itertools.pairwise(pieces.sent[1:])] == [1.0] * 2
    assert clock.now == 103


@pytest.mark.parametrize("order", [{"tokens": 4, "delay": 0}, {"tokens": 4, "delay": 350}])
def test_the_events_of_a_real_worker_leave_at_ticks(start_worker, order):
    """Tokens that come at once and tokens that come slowly leave in the same rhythm."""
    with start_worker(event_tick_ms=round(TICK_S * 1000)) as worker:
        worker.wait_for("WorkerReady")
        until(worker.serves, worker=worker)
        sent = worker.encapsulate({"stream": True, **order}, tokens=(wallet.draw(),))
        arrivals, content = [], b""
        with httpx.stream(
            "POST",
            f"{worker.url}/gateway",
            content=sent.encapsulated,
            headers={"content-type": ohttp.CHUNKED_REQUEST_TYPE},
            trust_env=False,
        ) as response:
            for data in response.iter_raw():
                arrivals.append(time.monotonic())
                content += data
        shape = lengths(content)
        response = sent.open(content)
    payloads = wallet.events(response.content)
    sent.check(payloads, worker.document.receipt_key)
    assert len(payloads) == 4 + 2
    padding = response.content.count(PADDING_EVENT)
    assert padding >= 6 if order["delay"] else padding <= 2
    assert set(shape[1:-1]) == {PIECE, 4096 + 2 + 16}
    # A busy machine delays a tick now and then; it never makes two of one.
    ticks = len(shape) - 2
    assert arrivals[-1] - arrivals[0] > (ticks - 1) * TICK_S * 0.9
    gaps = sorted(b - a for a, b in itertools.pairwise(arrivals[1:]))
    assert abs(gaps[len(gaps) // 2] - TICK_S) < TICK_S / 2
