"""The status table of docs/spec/wire.md, one test a line; a line without a test fails.

Most lines are put to a real worker, all its roles as processes with a fake engine inside. Answers
in clear are compared as they came over the socket, every byte of them.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from serving import serving

from issuer.accounts import add_account
from issuer.app import IssuerConfig, application
from issuer.keys import IssuerKey, KeyRing, generate
from relay.app import connections, create_app
from relay.config import RelayConfig
from tests.server import wallet
from tests.server.conftest import Worker, until
from wire import bhttp, inner, ohttp, varint
from wire.chunks import MAX_CHUNK, ChunkSealer
from wire.errors import Truncated
from wire.hpke import Kem, setup_sender
from wire.inner import TOKENS_NEEDED_FIELD
from wire.privacy_pass import TOKEN_REQUEST_TYPE, TokenChallenge, parse_challenges

PAGE = Path(__file__).parents[2] / "docs" / "spec" / "wire.md"
CHUNKED, PLAIN = ohttp.CHUNKED_REQUEST_TYPE, ohttp.REQUEST_TYPE
NODE = "ab" * 32

Check = Callable[[Any], None]
CHECKS: dict[str, Check] = {}


def line(failure: str) -> Callable[[Check], Check]:
    """Make a function the test of the line that begins with these words."""

    def register(check: Check) -> Check:
        assert failure not in CHECKS
        CHECKS[failure] = check
        return check

    return register


def lines_of_the_page() -> dict[str, str]:
    section = PAGE.read_text().split("## Status codes")[1].split("\n## ")[0]
    rows = [row.strip("|").split(" | ") for row in section.splitlines() if row.startswith("| ")]
    return {failure.strip(): answer.strip() for failure, answer in rows[1:]}


def test_every_line_of_the_page_has_its_test_and_every_test_its_line() -> None:
    assert len(CHECKS) >= 19
    assert list(CHECKS) == list(lines_of_the_page())


@pytest.fixture
def world(worker: Worker, start_worker: Any, tmp_path: Path) -> SimpleNamespace:
    return SimpleNamespace(worker=worker, start_worker=start_worker, folder=tmp_path)


@pytest.mark.parametrize("failure", lines_of_the_page())
def test_line(world: SimpleNamespace, failure: str) -> None:
    CHECKS[failure](world)


# ---- what the tests have in common ----


def raw_answer(
    worker: Worker, body: bytes, media_type: str = CHUNKED, method: str = "POST"
) -> bytes:
    """Every byte of the answer, status line and fields with it."""
    host, port = worker.url.removeprefix("http://").split(":")
    head = f"{method} /gateway HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
    head += f"content-type: {media_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    with closing(socket.create_connection((host, int(port)), timeout=30)) as connection:
        connection.sendall(head.encode() + body)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def head_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[0]


def ask(worker: Worker, request: bhttp.Request | bytes, *, chunked: bool = True) -> Inner:
    sent = wallet.send(wallet.config_of(worker.document), request, chunked=chunked)
    return Inner(worker, sent)


class Inner:
    """An answer inside: the response, and all that a relay saw of it."""

    def __init__(self, worker: Worker, sent: wallet.Sent) -> None:
        outer = worker.post(sent)
        self.outer = (outer.status_code, tuple(sorted(outer.headers.items())), len(outer.content))
        self.response = sent.open(outer.content)
        self.status = self.response.status
        self.headers = dict(self.response.headers)

    @property
    def error(self) -> dict[str, Any]:
        members: dict[str, Any] = json.loads(self.response.content)["error"]
        assert set(members) == {"message", "type", "param", "code"}
        return members


def request(order: Any = None, **changes: Any) -> bhttp.Request:
    made = wallet.inner_request(order or {}, tokens=changes.pop("tokens", ()))
    return bhttp.Request(**{**vars(made), **changes})


def without(fields: bhttp.Fields, name: bytes) -> bhttp.Fields:
    return tuple(field for field in fields if field[0] != name)


@contextmanager
def untouched(worker: Worker) -> Iterator[None]:
    """Nothing is computed, and nothing goes to the spent-token store."""
    before = worker.journal().count("submit"), len(worker.neighbours.spent.orders)
    yield
    assert (worker.journal().count("submit"), len(worker.neighbours.spent.orders)) == before


# ---- outer ----


@line("not POST")
def _not_post(world: SimpleNamespace) -> None:
    body = world.worker.encapsulate({}).encapsulated
    answers = {
        raw_answer(world.worker, body, method=m) for m in ("PUT", "DELETE", "PATCH", "QUERY")
    }
    assert len(answers) == 1
    (answer,) = answers
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"allow: POST" in answer
    for method in ("GET", "OPTIONS"):
        assert raw_answer(world.worker, b"", method=method) == answer


@line("content type not one of the two of a request")
def _media_type(world: SimpleNamespace) -> None:
    body = world.worker.encapsulate({}).encapsulated
    others = (
        "application/json",
        "message/ohttp-res",
        "message/ohttp-chunked-res",
        "message/bhttp",
        "",
    )
    answers = {raw_answer(world.worker, body, media_type) for media_type in others}
    assert len(answers) == 1
    assert answers.pop().startswith(b"HTTP/1.1 415 ")


@line("body longer than any request, or too slow")
def _long_or_slow(world: SimpleNamespace) -> None:
    with world.start_worker(max_body=5000, body_timeout_s=0.3) as worker:
        worker.wait_for("WorkerReady")
        assert raw_answer(worker, bytes(5001)).startswith(b"HTTP/1.1 413 ")
        host, port = worker.url.removeprefix("http://").split(":")
        with closing(socket.create_connection((host, int(port)), timeout=10)) as slow:
            head = f"POST /gateway HTTP/1.1\r\nhost: x\r\ncontent-type: {CHUNKED}\r\n"
            slow.sendall(head.encode() + b"content-length: 100\r\n\r\nslow")
            assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
        with untouched(worker):  # and it goes on
            assert ask(worker, request()).status == 401


@line("key id, KEM, KDF or AEAD unknown or retired")
def _unknown_key(world: SimpleNamespace) -> None:
    body = world.worker.encapsulate({}).encapsulated
    (key_id, *_), algorithms = body, body[1:7]
    heads = [
        bytes([key_id ^ 0x80]) + algorithms,
        bytes([key_id]) + b"\x00\x10" + algorithms[2:],
        bytes([key_id]) + algorithms[:2] + b"\x00\x02" + algorithms[4:],
        bytes([key_id]) + algorithms[:4] + b"\x00\x04",
        bytes([key_id]) + b"\x00\x20" + algorithms[2:],  # the KEM of our other key
    ]
    with untouched(world.worker):
        answers = {raw_answer(world.worker, head + body[7:]) for head in heads}
    assert len(answers) == 1
    head, _, problem = answers.pop().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(problem)["type"] == ohttp.KEY_PROBLEM


def unopenable(worker: Worker, good: bytes) -> dict[str, tuple[bytes, str]]:
    plain = worker.encapsulate({}, chunked=False).encapsulated
    x25519 = wallet.send(wallet.config_of(worker.document, Kem.X25519), b"x").encapsulated
    return {
        "nothing": (b"", CHUNKED),
        "a key id": (good[:1], CHUNKED),
        "a header": (good[:7], CHUNKED),
        "half an enc": (good[:500], PLAIN),
        "an enc": (good[:1127], CHUNKED),
        "an enc, plain": (plain[:1127], PLAIN),
        "cut": (good[:-1], CHUNKED),
        "longer": (good + b"\0", CHUNKED),
        "bad tag": (good[:-1] + bytes([good[-1] ^ 1]), CHUNKED),
        "bad tag, plain": (plain[:-1] + bytes([plain[-1] ^ 1]), PLAIN),
        "another enc": (good[:7] + os.urandom(1120) + good[1127:], CHUNKED),
        "all-zero enc": (good[:7] + bytes(1120) + good[1127:], CHUNKED),
        "all-zero X25519 enc": (x25519[:7] + bytes(32) + x25519[39:], CHUNKED),
        "another AEAD": (good[:6] + b"\x02" + good[7:], CHUNKED),
        "plain sent as chunked": (plain, CHUNKED),
        "chunked sent as plain": (good, PLAIN),
    }


@line("short body, bad tag, all-zero `enc`, plain sent as chunked and back")
def _does_not_open(world: SimpleNamespace) -> None:
    good = world.worker.encapsulate({})
    answers = {}
    with untouched(world.worker):
        for name, (body, media_type) in unopenable(world.worker, good.encapsulated).items():
            answers[name] = raw_answer(world.worker, body, media_type)
    assert len(set(answers.values())) == 1, {name: head_of(a) for name, a in answers.items()}
    head, _, body = answers["nothing"].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 422 ")
    assert body == b""
    assert good.open(world.worker.post(good).content).status == 401, "its bytes are not marked"


def in_chunks(worker: Worker, make: Callable[[Any, list[bytes]], bytes]) -> bytes:
    """A request whose chunks `make` seals and orders as it likes."""
    config = wallet.config_of(worker.document)
    header = ohttp.Header(config.key_id, config.kem, *config.algorithms[0])
    info = ohttp.request_info(header, chunked=True)
    enc, context = setup_sender(header.suite, config.public_key, info)
    message = bhttp.encode_request(request(tokens=(wallet.draw(),)))
    pieces = [message[at : at + 200] for at in range(0, len(message), 200)]
    return header.encode() + enc + make(context, pieces)


def _sealed(context: Any, pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    sealer = ChunkSealer(context.seal)
    return [sealer.chunk(piece) for piece in pieces[:-1]], sealer.final(pieces[-1])


def _without_final(context: Any, pieces: list[bytes]) -> bytes:
    return b"".join(_sealed(context, pieces)[0])


def _swapped(context: Any, pieces: list[bytes]) -> bytes:
    (first, second, *others), final = _sealed(context, pieces)
    return b"".join((second, first, *others, final))


def _left_out(context: Any, pieces: list[bytes]) -> bytes:
    (_, *others), final = _sealed(context, pieces)
    return b"".join((*others, final))


def _repeated(context: Any, pieces: list[bytes]) -> bytes:
    (first, *others), final = _sealed(context, pieces)
    return b"".join((first, first, *others, final))


def _empty_before_final(context: Any, pieces: list[bytes]) -> bytes:
    empty = context.seal(b"", b"")
    chunks, final = _sealed(context, pieces)
    return varint.encode(len(empty)) + empty + b"".join(chunks) + final


def _sealed_as_final_framed_as_not(context: Any, pieces: list[bytes]) -> bytes:
    whole = context.seal(b"final", b"".join(pieces))
    return varint.encode(len(whole)) + whole


def _longer_than_a_chunk(context: Any, _: list[bytes]) -> bytes:
    long = context.seal(b"", bytes(MAX_CHUNK + 1))
    return varint.encode(len(long)) + long + b"\0" + context.seal(b"final", b"")


def _endless_length(context: Any, pieces: list[bytes]) -> bytes:
    return varint.encode(varint.MAX) + _without_final(context, pieces)


@line("chunks: no final one, swapped, an empty one that is not final, a length beyond the limit")
def _chunks(world: SimpleNamespace) -> None:
    worker = world.worker
    forms = (
        _without_final,
        _swapped,
        _left_out,
        _repeated,
        _empty_before_final,
        _sealed_as_final_framed_as_not,
        _longer_than_a_chunk,
        _endless_length,
    )
    with untouched(worker):
        answers = {raw_answer(worker, in_chunks(worker, form)) for form in forms}
        answers.add(raw_answer(worker, b""))  # the very bytes of everything that does not open
    assert len(answers) == 1
    assert answers.pop().startswith(b"HTTP/1.1 422 ")

    def in_order(context: Any, pieces: list[bytes]) -> bytes:
        chunks, final = _sealed(context, pieces)
        return b"".join((*chunks, final))

    assert raw_answer(worker, in_chunks(worker, in_order)).startswith(b"HTTP/1.1 200 ")


class FakeGateway:
    """A worker that says which node it is, and counts what else it is asked and never answers."""

    def __init__(self, *, hang_up: bool) -> None:
        self.hang_up = hang_up
        self.asked = 0
        self.held: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        body = json.dumps({"status": "ok", "nodes": [NODE]}).encode()
        health = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            if connection.recv(65536).startswith(b"GET /health"):
                connection.sendall(health + body)
                connection.close()
                continue
            self.asked += 1
            if self.hang_up:
                connection.close()
            else:
                self.held.append(connection)


@line("worker out of reach, or unable to open")
def _unreachable(world: SimpleNamespace) -> None:
    for hang_up, status in ((True, 503), (False, 504)):
        fake = FakeGateway(hang_up=hang_up)
        config = RelayConfig("127.0.0.1", 0, (fake.url,), fake.url, worker_timeout_s=0.3)
        with (
            serving(create_app(config), http=connections(config)) as relay,
            httpx.Client(trust_env=False) as client,
        ):
            headers = {"content-type": CHUNKED}
            answer = client.post(f"{relay}/{NODE}", content=b"x" * 99, headers=headers)
            fake.listener.close()
        assert answer.status_code == status
        assert answer.headers.get("retry-after") == ("5" if hang_up else None)
        assert fake.asked == 1  # tried once
    crash = world.worker.encapsulate({"fail": "exit"}, tokens=(wallet.draw(),))
    answer = raw_answer(world.worker, crash.encapsulated)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer


# ---- inner ----


@line("binary message malformed, a response, empty, or padded with anything but zeros")
def _malformed(world: SimpleNamespace) -> None:
    good = bhttp.encode_request(request())
    messages = {
        "empty": b"",
        "a response": bhttp.encode_response(bhttp.Response(200)),
        "an unknown framing": b"\x04" + good[1:],
        "no control data": good[:1],
        "cut": good[:30],
        "not http": b"GET /v1/models HTTP/1.1\r\n\r\n",
        "padding": good + b"\0\0\1",
        "an upper-case field": good.replace(b"content-type", b"Content-Type"),
        "a field about a connection": good.replace(b"\x04date", b"\x02te\x01") + b"\0",
    }
    with untouched(world.worker):
        answers = {name: ask(world.worker, message) for name, message in messages.items()}
    assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(messages, 400)
    assert len({answer.response.content for answer in answers.values()}) == 1
    assert len({answer.outer for answer in answers.values()}) == 1


@line("CONNECT, another authority, an absolute URL or `..` as path")
def _not_for_us(world: SimpleNamespace) -> None:
    connect = bhttp.Request(b"CONNECT", b"", b"example.com:443", b"")
    refused = [
        connect,
        request(method=b"CONNECT"),
        request(authority=b"example.com"),
        request(scheme=b"http"),
        request(headers=(*request().headers, (b"host", b"example.com"))),
        request(path=b"https://sottovoce.invalid/v1/chat/completions"),
        request(path=b"https://example.com/"),
        request(path=b"/v1/../v1/chat/completions"),
        request(path=b"/v1/chat/completions/.."),
        request(path=b""),
    ]
    elsewhere = [request(path=b"/v1/files"), request(path=b"//example.com/v1/models")]
    with untouched(world.worker):
        assert [ask(world.worker, each).status for each in refused] == [400] * len(refused)
        assert [ask(world.worker, each).status for each in elsewhere] == [404, 404]
        assert ask(world.worker, request(method=b"GET", content=b"")).status == 405


@line("`Expect: 100-continue`")
def _expect(world: SimpleNamespace) -> None:
    fields = (*request(tokens=(wallet.draw(),)).headers, (b"expect", b"100-continue"))
    with untouched(world.worker):
        answer = ask(world.worker, request(headers=fields))
    assert (answer.status, answer.error["code"]) == (417, "expect_refused")


@line("Date missing or outside five minutes")
def _date(world: SimpleNamespace) -> None:
    tokens = (wallet.draw(),)
    good = request(tokens=tokens)
    dates = {None, b"yesterday", b"Sunday, 06-Nov-94 08:49:37 GMT"}
    dates |= {inner.http_date(int(time.time()) + off) for off in (-86_400, -310, 310, 86_400)}
    with untouched(world.worker):
        for date in dates:
            field = () if date is None else ((b"date", date),)
            fields = (*without(good.headers, b"date"), *field)
            answer = ask(world.worker, request(headers=fields))
            assert answer.status == 400, date
            assert json.loads(answer.response.content)["type"] == inner.DATE_PROBLEM
            assert answer.headers[b"content-type"] == b"application/problem+json"
            assert answer.headers[b"cache-control"] == b"no-store"
            told = inner.parse_http_date(answer.headers[b"date"])
            assert abs(told - time.time()) < 60
    assert ask(world.worker, good).status == 200  # with the token that was shown with each


@line("`enc` seen before")
def _replay(world: SimpleNamespace) -> None:
    for tokens, first in (((), 401), ((wallet.draw(),), 200)):
        sent = world.worker.encapsulate({}, tokens=tokens)
        outer = world.worker.post(sent)
        context, enc = sent.opener._context, sent.opener._enc
        assert sent.open(outer.content).status == first
        with untouched(world.worker):
            again = world.worker.post(sent)
        sent.opener = ohttp.ChunkedResponseOpener(context, enc)
        response = sent.open(again.content)
        assert response.status == 400
        assert dict(response.headers)[b"content-type"] == b"application/problem+json"
        assert b"date" not in dict(response.headers)
        # What the relay sees of it is what it saw of the first.
        assert (outer.status_code, outer.headers) == (again.status_code, again.headers)
        assert len(outer.content) == len(again.content)


@line("worker full")
def _full(world: SimpleNamespace) -> None:
    with world.start_worker(max_requests=1) as worker:
        worker.wait_for("WorkerReady")
        long = worker.encapsulate({"held": True}, tokens=(wallet.draw(),))
        with ThreadPoolExecutor(1) as executor:
            first = executor.submit(worker.post, long)
            until(lambda: "submit" in worker.journal(), worker=worker)
            token = wallet.draw()
            for tokens in ((), (token,)):  # without a token, too: none is looked at
                answer = ask(worker, request(tokens=tokens))
                assert (answer.status, answer.error["code"]) == (503, "busy")
                assert answer.headers[b"retry-after"] == b"1"
            assert len(worker.neighbours.spent.orders) == 1
            worker.let_go()
            assert long.open(first.result().content).status == 200
        until(lambda: len(worker.capsules()) == 2, worker=worker)
        assert ask(worker, request(tokens=(token,))).status == 200  # the token is still good


def unpaid(spent: Any) -> dict[str, bhttp.Request]:
    good = wallet.draw()
    kind = type(good)
    forged = kind(good.nonce, good.challenge_digest, good.key_id, bytes(256))
    renamed = kind(os.urandom(32), good.challenge_digest, good.key_id, good.signature)
    bare = request().headers
    return {
        "none": request(),
        "unreadable": request(headers=(*bare, (b"authorization", b"PrivateToken token=x"))),
        "another scheme": request(headers=(*bare, (b"authorization", b"Bearer sk-1"))),
        "forged": request(tokens=(forged,)),
        "another nonce": request(tokens=(renamed,)),
        "another key": request(tokens=(wallet.draw(1),)),
        "another challenge": request(tokens=(wallet.draw(issuer_name="other.invalid"),)),
        "one twice": request(tokens=(good, good)),
        "one of two forged": request(tokens=(good, forged)),
        "spent": request(tokens=(spent,)),
        "spent, and a bad body behind it": request(b"{", tokens=(forged,)),
    }


@line("token missing, unreadable, forged, spent, of another key or challenge")
def _unpaid(world: SimpleNamespace) -> None:
    spent = wallet.draw()
    assert ask(world.worker, request(tokens=(spent,))).status == 200
    submitted = world.worker.journal().count("submit")
    answers = {name: ask(world.worker, each) for name, each in unpaid(spent).items()}
    assert {answer.status for answer in answers.values()} == {401}
    assert len({answer.response for answer in answers.values()}) == 1
    assert len({answer.outer for answer in answers.values()}) == 1
    assert world.worker.journal().count("submit") == submitted

    (challenge,) = parse_challenges(answers["none"].headers[b"www-authenticate"])
    assert challenge.challenge == wallet.accepted_issuer().challenge
    assert challenge.spki == wallet.spki()
    assert answers["none"].headers[b"cache-control"] == b"no-store"


@line("an OpenAI-level error")
def _openai_error(world: SimpleNamespace) -> None:
    token = wallet.draw()
    with untouched(world.worker):
        answer = ask(world.worker, request({"invalid": True}, tokens=(token,)))
    assert (answer.status, answer.headers[b"content-type"]) == (400, b"application/json")
    assert answer.error["type"] == "invalid_request_error"
    paid = ask(world.worker, request(tokens=(token,)))
    assert paid.status == 200
    assert paid.outer == answer.outer  # the relay cannot tell the two


@line("too few tokens")
def _too_few(world: SimpleNamespace) -> None:
    tokens = tuple(wallet.draw() for _ in range(4))
    for price, brought in ((2, 1), (4, 1), (4, 2)):
        with untouched(world.worker):
            answer = ask(world.worker, request({"price": price}, tokens=tokens[:brought]))
        assert (answer.status, answer.error["code"]) == (401, "more_tokens_required")
        assert answer.headers[TOKENS_NEEDED_FIELD] == str(price).encode()
        assert b"www-authenticate" in answer.headers
    assert ask(world.worker, request({"price": 4}, tokens=tokens)).status == 200


@line("spent-token store down")
def _store_down(world: SimpleNamespace) -> None:
    token, store = wallet.draw(), world.worker.neighbours.spent
    submitted, rows = world.worker.journal().count("submit"), len(store.rows)
    store.mode = "down"
    answer = ask(world.worker, request(tokens=(token,)))
    store.mode = "ok"
    assert (answer.status, answer.error["code"]) == (503, "payment_unavailable")
    assert (world.worker.journal().count("submit"), len(store.rows)) == (submitted, rows)
    assert ask(world.worker, request(tokens=(token,))).status == 200


@line("failure after a stream began")
def _midstream(world: SimpleNamespace) -> None:
    for order, told in (({"fail": "midstream"}, True), ({"fail": "midexit"}, False)):
        tokens = (wallet.draw(),)
        sent = world.worker.encapsulate({"stream": True, **order}, tokens=tokens)
        answer = raw_answer(world.worker, sent.encapsulated)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert not answer.endswith(b"\r\n0\r\n\r\n")  # the HTTP message is cut as well
        payloads = wallet.events(sent.open_cut(dechunked(answer)))
        assert b"[DONE]" not in payloads
        last = json.loads(payloads[-1])
        assert last.get("error", {}).get("code") == ("internal_error" if told else None)
        with pytest.raises(Truncated):
            sent.opener.finish()


def dechunked(answer: bytes) -> bytes:
    """The body of an HTTP/1.1 answer in chunks, as far as it came."""
    rest, body = answer.partition(b"\r\n\r\n")[2], b""
    while size := rest.partition(b"\r\n")[0]:
        start = len(size) + 2
        end = start + int(size, 16)
        body, rest = body + rest[start:end], rest[end + 2 :]
    return body


# ---- issuer ----


@line("issuer: token type, key id, size or range; method; media type; account; quota")
def _issuer(world: SimpleNamespace) -> None:
    database = f"sqlite:///{world.folder}/accounts.sqlite"
    account = add_account(database, 1)
    with IssuerKey(generate()) as key:
        config = IssuerConfig("127.0.0.1", 0, database, (), wallet.ISSUER_NAME)
        with serving(application(config, KeyRing([key]))) as url:
            _ask_issuer(f"{url}/token-request", account, key.spki)


def _ask_issuer(url: str, account: str, spki: bytes) -> None:
    challenge = TokenChallenge(wallet.ISSUER_NAME, b"", inner.AUTHORITY.decode())
    random = {"nonce": os.urandom(32), "salt": os.urandom(48), "blind": os.urandom(272)}
    good = wallet.privacy_pass.begin_issuance(challenge, spki, **random)[0].encode()

    def status(body: bytes = good, method: str = "POST", **changes: str) -> int:
        headers = {"content-type": TOKEN_REQUEST_TYPE, "authorization": f"Bearer {account}"}
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        return httpx.request(
            method, url, content=body, headers=headers, trust_env=False
        ).status_code

    of_another_key = good[:2] + bytes([good[2] ^ 1]) + good[3:]
    unprocessable = {
        "token type": b"\x00\x01" + good[2:],
        "key id": of_another_key,
        "short": good[:-1],
        "long": good + b"\0",
        "empty": b"",
        "range": good[:3] + b"\xff" * 256,
    }
    assert {name: status(body) for name, body in unprocessable.items()} == dict.fromkeys(
        unprocessable, 422
    )
    assert status(b"", method="GET") == 405
    assert status(content_type="application/octet-stream") == 415
    assert status(authorization="") == 401
    assert status(authorization="Bearer " + "0" * 32) == 401
    assert status() == 200  # nothing of all that cost quota
    assert status() == 403
