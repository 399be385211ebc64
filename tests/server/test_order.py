"""The order of a capsule's checks: what a request fails at, nothing after it has happened.

The capsule runs on a thread with real sockets; the test is its front and writes down what it is
asked. The keeper is the real one, the engine and the application are fakes.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from server import capsule, keeper
from server.capsule import Connections, Surroundings
from server.connections import FrontConnection, KeeperConnection, WatchedEngine
from server.errors import ClientGone, PeerGone
from server.keeper import CapsuleState, Keyring
from server.keeper_messages import Binding, NewGeneration, Packet, PublicKeys, encode_generation
from server.messages import (
    LENGTH,
    Admission,
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
    Reject,
    Request,
    Spend,
    Spending,
    Spent,
    Start,
    decode,
    encode,
    frame_length,
)
from server.sockets import packet_pair, receive_packet, send_packet, stream_pair
from tests.server import wallet
from tests.server.fake_parts import GEOMETRY, MODEL_DIGEST, FakeApplication, FakeEngine
from wire import bhttp, inner
from wire.hpke import Aead, Kdf, Kem
from wire.key_config import KeyConfig
from wire.privacy_pass import parse_challenges
from wire.refund import (
    BLINDED_FIELD,
    REFUSED,
    SIGNATURES_FIELD,
    BlindedMessages,
    decode_signatures,
)

NOW = 1_800_000_030
DOCUMENT = b"D" * 32


@dataclass
class Stage:
    """Everything around one capsule, and what it was asked."""

    config: KeyConfig
    keyring: Keyring
    marking: Marking = Marking.FRESH
    admission: Admission = Admission.OK
    spending: Spending = Spending.OK
    quoted: Quoted = field(default_factory=lambda: Quoted(Quoting.OK, b"bundle"))
    now: float = NOW
    asked: list[Message] = field(default_factory=list)
    signed: int = 0
    submitted: list[str] = field(default_factory=list)
    application: FakeApplication = field(default_factory=FakeApplication)

    def play(self, encapsulated: bytes, *, chunked: bool = True) -> bytes:
        """Run one capsule to its end and return what it answered."""
        front, to_front = stream_pair()
        keeper_end, to_keeper = packet_pair()
        engine, to_engine = packet_pair()
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._run, args=(to_front, to_keeper, to_engine)),
            threading.Thread(target=self._keep, args=(keeper_end,)),
            threading.Thread(target=self._compute, args=(engine, stop)),
        ]
        for thread in threads:
            thread.start()
        with front:
            front.sendall(encode(Request(chunked, encapsulated)))
            answer = self._converse(front)
        stop.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        return answer

    def _run(self, *sockets: socket.socket) -> None:
        front, to_keeper, engine = sockets
        connections = Connections(
            FrontConnection(front),
            KeeperConnection(to_keeper),
            WatchedEngine(engine, GEOMETRY, front),
        )
        surroundings = Surroundings(
            self.application, wallet.accepted_issuer(), "simulated", lambda: self.now, os.urandom
        )
        try:
            capsule.serve(connections, surroundings)
        except ClientGone:
            pass
        finally:
            for sock in sockets:
                sock.close()

    def _keep(self, sock: socket.socket) -> None:
        state = CapsuleState()
        with sock:
            while True:
                try:
                    packet, _ = receive_packet(sock)
                except PeerGone:
                    return
                self.signed += packet[0] == Packet.SIGN
                send_packet(sock, keeper.answer(self.keyring, state, packet))

    def _compute(self, sock: socket.socket, stop: threading.Event) -> None:
        engine = FakeEngine(self.submitted.append)
        engine.adopt(sock)
        while not stop.is_set():
            engine.turn(0.01)

    def _converse(self, front: socket.socket) -> bytes:
        received = b""
        while (message := _receive(front)) is not None:
            self.asked.append(message)
            if isinstance(message, Chunk):
                received += message.data
            answers = {
                Mark: Marked(self.marking),
                Admit: Admitted(self.admission),
                Spend: Spent(self.spending),
                Quote: self.quoted,
                Refund: Refunded(tuple(_signed(m) for m in getattr(message, "messages", ()))),
            }
            if type(message) in answers:
                front.sendall(encode(answers[type(message)]))
        return received

    @property
    def steps(self) -> list[str]:
        """What was asked, by name, and after it what else was touched."""
        names = [type(message).__name__ for message in self.asked]
        without_chunks = [name for name in names if name != "Chunk"]
        prepared = ["prepared"] * self.application.prepared
        return [*without_chunks, *prepared, *self.submitted, *(["signed"] * self.signed)]


def _signed(message: bytes) -> bytes:
    return wallet.digest(message) * 8


def _receive(sock: socket.socket) -> Message | None:
    prefix = _exactly(sock, LENGTH.size)
    return None if prefix is None else decode(_exactly(sock, frame_length(prefix)))


def _exactly(sock: socket.socket, length: int) -> bytes | None:
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            return None
        data += more
    return data


@pytest.fixture
def stage() -> Stage:
    keyring = Keyring(os.urandom, lambda: NOW)
    keys = PublicKeys.decode(keyring.control(NewGeneration(0, 1, 2).encode()))
    keyring.control(Binding(0, DOCUMENT, MODEL_DIGEST, "audit", "none").encode())
    keyring.control(encode_generation(Packet.OPEN, 0))
    algorithms = ((Kdf.HKDF_SHA256, Aead.AES_128_GCM),)
    return Stage(KeyConfig(2, Kem.XWING, keys.xwing, algorithms), keyring)


@pytest.fixture
def token() -> Any:
    return wallet.draw()


def play(
    stage: Stage, order: Any = None, *, tokens: Any = (), blinded: Any = None, **fields: Any
) -> bhttp.Response:
    """Play an inner request and open the answer."""
    date = fields.pop("date", NOW)
    request = wallet.inner_request(order or {}, tokens=tokens, date=date, blinded=blinded)
    sent = wallet.send(stage.config, _changed(request, **fields))
    return sent.open(stage.play(sent.encapsulated))


def _changed(request: bhttp.Request, **fields: Any) -> bhttp.Request:
    return bhttp.Request(**{**vars(request), **fields})


def code(response: bhttp.Response) -> str:
    return str(json.loads(response.content)["error"]["code"])


# 1 open


def test_what_does_not_open_asks_nothing_but_the_keeper(stage):
    sent = wallet.send(stage.config, wallet.inner_request({}, date=NOW))
    stage.play(sent.encapsulated[:-1])

    assert stage.asked == [Reject(422)]
    assert stage.steps == ["Reject"]


def test_a_key_the_keeper_does_not_have_is_rejected(stage):
    sent = wallet.send(stage.config, wallet.inner_request({}, date=NOW))
    stage.play(b"\x63" + sent.encapsulated[1:])

    assert stage.asked == [Reject(400)]


def test_a_generation_that_is_not_open_is_rejected_like_one_that_does_not_exist(stage):
    stage.keyring.generations[0].opened = False
    sent = wallet.send(stage.config, wallet.inner_request({}, date=NOW))
    stage.play(sent.encapsulated)

    assert stage.asked == [Reject(400)]


# 2 parse


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"authority": b"other.invalid"}, 400),
        ({"scheme": b"http"}, 400),
        ({"path": b"/v1/files"}, 404),
        ({"method": b"GET"}, 405),
        ({"trailers": ((b"x", b"y"),)}, 400),
    ],
)
def test_a_request_that_is_not_one_of_ours_is_refused_before_it_is_marked(stage, change, status):
    response = play(stage, **change)

    assert response.status == status
    assert stage.steps == ["Start", "End"]


def test_expect_is_refused(stage):
    request = wallet.inner_request({}, date=NOW)
    response = play(stage, headers=(*request.headers, (b"expect", b"100-continue")))

    assert response.status == 417
    assert stage.steps == ["Start", "End"]


@pytest.mark.parametrize(
    "message",
    [b"", b"\x01", bhttp.encode_response(bhttp.Response(200)), b"not http at all", b"\x00" * 50],
)
def test_what_is_not_a_binary_request_is_refused(stage, message):
    sent = wallet.send(stage.config, message)
    response = sent.open(stage.play(sent.encapsulated))

    assert response.status == 400
    assert stage.steps == ["Start", "End"]


def test_padding_that_is_not_zero_is_refused(stage):
    message = bhttp.encode_request(wallet.inner_request({}, date=NOW)) + b"\0\1"
    sent = wallet.send(stage.config, message)

    assert sent.open(stage.play(sent.encapsulated)).status == 400
    assert stage.steps == ["Start", "End"]


# 3 date


@pytest.mark.parametrize("shift", [-361, 361, -86400])
def test_a_date_outside_the_window_is_told_ours_and_nothing_is_marked(stage, shift, token):
    response = play(stage, tokens=(token,), date=NOW + shift)

    assert response.status == 400
    assert dict(response.headers)[b"content-type"] == b"application/problem+json"
    assert dict(response.headers)[b"cache-control"] == b"no-store"
    assert inner.parse_http_date(dict(response.headers)[b"date"]) == NOW
    assert json.loads(response.content)["type"].endswith("#date")
    assert stage.steps == ["Start", "End"]


def test_a_request_without_a_date_is_told_ours(stage):
    headers = wallet.inner_request({}, date=NOW).headers
    response = play(stage, headers=tuple(field for field in headers if field[0] != b"date"))

    assert json.loads(response.content)["type"].endswith("#date")
    assert stage.steps == ["Start", "End"]


# 4 mark


def test_a_replay_is_refused_before_it_takes_a_place(stage, token):
    stage.marking = Marking.REPLAYED
    response = play(stage, tokens=(token,))

    assert response.status == 400
    assert b"date" not in dict(response.headers)
    assert stage.steps == ["Mark", "Start", "End"]


def test_a_full_replay_set_is_an_authenticated_busy(stage, token):
    stage.marking = Marking.FULL
    response = play(stage, tokens=(token,))

    assert (response.status, code(response)) == (503, "busy")
    assert stage.steps == ["Mark", "Start", "End"]


def test_a_mark_is_kept_until_the_date_window_has_surely_passed(stage, token):
    play(stage, tokens=(token,), date=NOW)

    mark = stage.asked[0]
    assert isinstance(mark, Mark)
    assert mark.expiry > NOW // 60 * 60 + inner.DATE_WINDOW_S


# 5 admit


def test_a_full_node_is_an_authenticated_busy_and_no_token_is_looked_at(stage):
    stage.admission = Admission.BUSY
    response = play(stage)  # without a token at all

    assert (response.status, code(response)) == (503, "busy")
    assert stage.steps == ["Mark", "Admit", "Start", "End"]


# 6 verify


def _bad_tokens() -> Iterator[Any]:
    good = wallet.draw()
    yield "none", ()
    yield "forged", (type(good)(good.nonce, good.challenge_digest, good.key_id, bytes(256)),)
    yield "of another key", (wallet.draw(1),)
    yield "for another challenge", (wallet.draw(issuer_name="other.invalid"),)
    yield "one given twice", (good, good)
    yield (
        "one good, one forged",
        (
            good,
            type(good)(os.urandom(32), good.challenge_digest, good.key_id, good.signature),
        ),
    )


def test_every_bad_token_gets_the_same_answer_and_the_request_is_not_looked_at(stage):
    answers = set()
    for name, tokens in _bad_tokens():
        stage.asked.clear()
        response = play(stage, {"invalid": True}, tokens=tokens)
        assert response.status == 401, name
        assert stage.steps == ["Mark", "Admit", "Start", "End"], name
        answers.add((response.headers, response.content))
    stage.asked.clear()
    headers = (*wallet.inner_request({}, date=NOW).headers, (b"authorization", b"Bearer sk-1"))
    unreadable = play(stage, headers=headers)
    assert stage.steps == ["Start", "End"]  # nothing to verify: refused where it cannot be read
    answers.add((unreadable.headers, unreadable.content))

    assert len(answers) == 1
    (offered,) = parse_challenges(dict(unreadable.headers)[b"www-authenticate"])
    assert offered.challenge == wallet.accepted_issuer().challenge
    assert offered.spki == wallet.spki()


# 7 prepare


def test_a_bad_openai_request_costs_no_token(stage, token):
    response = play(stage, {"invalid": True}, tokens=(token,))

    assert (response.status, code(response)) == (400, "bad_value")
    assert stage.steps == ["Mark", "Admit", "Start", "End", "prepared"]


# 8 count


def test_too_few_tokens_are_told_how_many_and_none_is_spent(stage, token):
    response = play(stage, {"price": 4}, tokens=(token, wallet.draw()))

    assert response.status == 401
    assert dict(response.headers)[inner.TOKENS_NEEDED_FIELD] == b"4"
    assert stage.steps == ["Mark", "Admit", "Start", "End", "prepared"]


# 9 spend


def test_a_spent_token_gets_the_answer_of_every_bad_token_and_nothing_is_computed(stage, token):
    bad = play(stage)
    stage.asked.clear()
    stage.spending = Spending.SPENT
    response = play(stage, tokens=(token,))

    assert (response.headers, response.content) == (bad.headers, bad.content)
    assert stage.steps == ["Mark", "Admit", "Spend", "Start", "End", "prepared"]


def test_without_the_store_nothing_is_computed(stage, token):
    stage.spending = Spending.UNAVAILABLE
    response = play(stage, tokens=(token,))

    assert (response.status, code(response)) == (503, "payment_unavailable")
    assert stage.steps == ["Mark", "Admit", "Spend", "Start", "End", "prepared"]


def test_the_store_is_told_hashes_of_all_tokens_and_no_nonce(stage):
    tokens = tuple(wallet.draw() for _ in range(4))
    play(stage, {"price": 4}, tokens=tokens)

    spend = next(message for message in stage.asked if isinstance(message, Spend))
    assert spend.key_id == tokens[0].key_id
    assert set(spend.rows) == {wallet.digest(t.key_id + t.nonce) for t in tokens}


# 10 run


def test_a_good_request_takes_every_step_once_and_in_order(stage, token):
    response = play(stage, tokens=(token,))

    assert response.status == 200
    assert stage.steps == [
        *("Mark", "Admit", "Spend", "Start", "End"),
        *("prepared", "submit", "erased done", "signed"),
    ]
    assert isinstance(stage.asked[-1], End)


# 11 refund


def blinded(count: int) -> BlindedMessages:
    return BlindedMessages(7, tuple(os.urandom(256) for _ in range(count)))


def returned(response: bhttp.Response, messages: BlindedMessages) -> list[bool]:
    """For which messages a signature came back; each must be that message's."""
    value = dict(response.trailers)[SIGNATURES_FIELD]
    signatures = decode_signatures(value, len(messages.messages))
    for message, signature in zip(messages.messages, signatures, strict=True):
        assert signature in (REFUSED, _signed(message))
    return [signature != REFUSED for signature in signatures]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("used", [1, 3, 4, 9])
def test_what_was_not_used_is_given_back_and_no_more(stage, stream, used):
    tokens, messages = tuple(wallet.draw() for _ in range(4)), blinded(4)
    order = {"price": 2, "used": used, "stream": stream}
    response = play(stage, order, tokens=tokens, blinded=messages)

    assert response.status == 200
    due = max(0, 4 - used)
    assert returned(response, messages) == [True] * due + [False] * (4 - due)
    # Several tokens: the front is asked whatever is due, so that the pause tells nothing.
    assert stage.steps.count("Refund") == 1


def test_a_request_with_one_token_that_was_computed_asks_for_nothing(stage, token):
    messages = blinded(1)
    response = play(stage, tokens=(token,), blinded=messages)

    assert returned(response, messages) == [False]
    assert "Refund" not in stage.steps


@pytest.mark.parametrize("count", [1, 2])
def test_a_request_that_fails_after_its_spend_gets_everything_back(stage, count):
    stage._compute = lambda sock, _stop: sock.close()
    tokens, messages = tuple(wallet.draw() for _ in range(count)), blinded(count)
    response = play(stage, tokens=tokens, blinded=messages)

    assert (response.status, code(response)) == (503, "engine_gone")
    assert returned(response, messages) == [True] * count


def test_nothing_comes_back_of_what_was_not_spent(stage, token):
    stage.spending = Spending.SPENT
    response = play(stage, tokens=(token,), blinded=blinded(1))

    assert response.status == 401
    assert not response.trailers
    assert "Refund" not in stage.steps


def test_a_client_that_wants_nothing_back_gets_no_trailer(stage):
    tokens = tuple(wallet.draw() for _ in range(4))
    response = play(stage, {"used": 1}, tokens=tokens)

    assert response.status == 200
    assert not response.trailers


@pytest.mark.parametrize("count", [1, 3, 8])
def test_more_or_fewer_blinded_messages_than_tokens_are_refused(stage, token, count):
    request = wallet.inner_request({}, tokens=(token, wallet.draw()), date=NOW)
    headers = (*request.headers, (BLINDED_FIELD, blinded(count).encode()))
    response = play(stage, headers=headers)

    assert response.status == 400
    assert stage.steps == ["Start", "End"]


@pytest.mark.parametrize("count", [1, 8])
def test_the_end_of_a_stream_has_one_size(stage, count):
    tokens = tuple(wallet.draw() for _ in range(count))
    sizes = []
    for messages in (None, blinded(count)):
        stage.asked.clear()
        play(stage, {"stream": True, "used": 1}, tokens=tokens, blinded=messages)
        *_, last = (message for message in stage.asked if isinstance(message, Chunk))
        sizes.append(len(last.data))
    assert sizes[0] == sizes[1]


def test_an_engine_that_goes_away_is_named(stage, token):
    stage._compute = lambda sock, _stop: sock.close()
    response = play(stage, tokens=(token,))

    assert (response.status, code(response)) == (503, "engine_gone")


def test_a_keeper_that_goes_before_it_has_signed_is_named(stage, token):
    original = stage._keep

    def keep(sock):
        state = CapsuleState()
        packet, _ = receive_packet(sock)
        send_packet(sock, keeper.answer(stage.keyring, state, packet))
        packet, _ = receive_packet(sock)
        assert packet[0] == Packet.SIGN
        sock.close()

    stage._keep = keep
    response = play(stage, tokens=(token,))
    assert (response.status, code(response)) == (503, "keeper_gone")
    assert (b"retry-after", b"1") in response.headers

    stage._keep = original
    assert play(stage, tokens=(wallet.draw(),)).status == 200


def test_a_client_that_goes_has_its_slot_cancelled_and_erased(stage, token):
    order = {"stream": True, "delay": 10, "tokens": 400}
    sent = wallet.send(stage.config, wallet.inner_request(order, tokens=(token,), date=NOW))
    original = stage._converse

    def converse(front: socket.socket) -> bytes:
        closer = threading.Timer(0.3, lambda: front.shutdown(socket.SHUT_WR))
        closer.start()
        return original(front)

    stage._converse = converse
    start = time.monotonic()
    stage.play(sent.encapsulated)

    assert stage.submitted == ["submit", "erased cancel"]
    assert not any(isinstance(message, End) for message in stage.asked)
    assert any(isinstance(message, Start) for message in stage.asked)
    assert time.monotonic() - start < 5


# a fresh quote, in the place of 10


NONCE = b"\x6e" * 32
FRESH = {"method": b"GET", "path": b"/v1/attestation?nonce=" + NONCE.hex().encode(), "content": b""}


def test_a_fresh_quote_is_asked_for_after_its_token_was_spent_and_signed_by_nobody(stage, token):
    response = play(stage, tokens=(token,), **FRESH)

    assert (response.status, response.content) == (200, b"bundle")
    assert stage.steps == ["Mark", "Admit", "Spend", "Quote", "Start", "End"]
    assert Quote(NONCE) in stage.asked


def test_a_nonce_that_is_none_is_refused_before_its_token_is_spent(stage, token):
    response = play(stage, tokens=(token,), **FRESH | {"path": b"/v1/attestation"})

    assert (response.status, code(response)) == (400, "invalid_nonce")
    assert stage.steps == ["Mark", "Admit", "Start", "End"]


def test_a_quote_that_is_not_to_be_had_gives_its_token_back(stage, token):
    stage.quoted = Quoted(Quoting.BUSY)
    messages = blinded(1)
    response = play(stage, tokens=(token,), blinded=messages, **FRESH)

    assert (response.status, code(response)) == (503, "busy")
    assert stage.steps == ["Mark", "Admit", "Spend", "Quote", "Refund", "Start", "End"]
    (signature,) = decode_signatures(dict(response.trailers)[SIGNATURES_FIELD], 1)
    assert signature == _signed(messages.messages[0])
