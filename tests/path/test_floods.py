"""Floods, slow bodies and endless bodies against the real processes, with good requests between.

Nothing crashes, nothing is spent twice, and what is refused under load is refused honestly. The
heavy forms run under `make soak`.
"""

import asyncio
import base64
import contextlib
import os
import socket
import time
from pathlib import Path

import httpx
import pytest
from path_stack import children

from attestation.bundle import Bundle
from attestation.verifier.policy import ClientPolicy
from client.exchange import InnerRequest
from client.nodes import NodeDirectory
from client.prepared import AEAD
from client.trust import load_trust
from client.wallet import Wallet
from sottovoce.local import ISSUER, LOG, RELAY, WORKER
from wire import bhttp, ohttp, varint
from wire.hpke import Kem
from wire.key_document import KeyDocument

pytestmark = pytest.mark.xdist_group("stack")

TYPE = {"content-type": ohttp.CHUNKED_REQUEST_TYPE, "incremental": "?1"}
SENDERS = 32
MIB = 1024


def worker_url(stack):
    return stack.local.url(WORKER)


def node_of(stack):
    return httpx.get(f"{worker_url(stack)}/health", trust_env=False).json()["nodes"][0]


def ways_in(stack):
    """The same worker through the relay, and as a relay asks it."""
    return f"{stack.local.url(RELAY)}/{node_of(stack)}", f"{worker_url(stack)}/gateway"


def listed_bundle(stack):
    """The worker's bundle in the list; None while a worker just restarted is not in it."""
    nodes = httpx.get(f"{stack.local.url(RELAY)}/nodes", trust_env=False).json()
    return nodes["bundles"].get(node_of(stack))


def live_header(stack):
    stack.until(lambda: listed_bundle(stack), timeout=60)
    bundle = Bundle.decode(base64.b64decode(listed_bundle(stack)))
    configs = KeyDocument.decode(bundle.key_document).key_configs
    key_id = next(config.key_id for config in configs if config.kem is Kem.XWING)
    return bytes([key_id]) + b"\x64\x7a\x00\x01\x00\x01"


def roles(process):
    """The long-lived processes of a worker, launcher first: not its capsules."""
    return [process.pid, *children(process.pid)]


def kib(pids):
    total = 0
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        total += int(status.split("VmRSS:")[1].split()[0])
    return total


@pytest.mark.parametrize("count", [pytest.param(300), pytest.param(10_000, marks=pytest.mark.soak)])
def test_garbage_as_fast_as_it_goes_leaves_everything_as_it_was(stack, count):
    """Each is addressed to a live key: it costs a decapsulation, and no capsule."""
    url, _ = ways_in(stack)
    header, worker, relay = live_header(stack), stack.process("worker0"), stack.process("relay")
    pids = [*roles(worker), relay.pid]
    stack.until(stack.at_rest)
    before = kib(pids)
    statuses, good = [], []

    async def send(client, numbers):
        for number in numbers:
            body = header + os.urandom(1120) + os.urandom(number % 5000)
            answer = await client.post(url, content=body, headers=TYPE)
            statuses.append(answer.status_code)

    async def ask(flood):
        while not flood.done():
            good.append(await asyncio.to_thread(stack.chat, max_tokens=2))
            await asyncio.sleep(0.2)

    async def main():
        limits = httpx.Limits(max_connections=SENDERS)
        async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as client:
            numbers = iter(range(count))
            flood = asyncio.gather(*(send(client, numbers) for _ in range(SENDERS)))
            await asyncio.gather(flood, ask(flood))

    began = time.monotonic()
    asyncio.run(main())
    rate = count / (time.monotonic() - began)
    print(f"{rate:.0f} garbage requests/s")  # noqa: T201 - with -s
    assert statuses == [422] * count, "each was refused for what it is, none for want of room"
    assert good
    assert {answer.status_code for answer in good} == {200}, "and nobody was crowded out"
    stack.until(stack.at_rest, timeout=90)
    assert roles(worker) == pids[:-1], "no role ended"
    assert kib(pids) - before < 64 * MIB
    assert stack.process("worker0") is worker
    assert stack.process("relay") is relay
    stack.until(stack.serves)


def connect(url):
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    path = "/" + url.split("/", 3)[3]
    sock = socket.create_connection((host, int(port)), timeout=30)
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", f"content-type: {TYPE['content-type']}"]
    return sock, "\r\n".join([*lines, ""]).encode()


def status_of(sock):
    """Read an answer to its end; return its status."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := sock.recv(65536):
            data += more
    return int(data.split(b" ", 2)[1]) if data else None


@pytest.mark.parametrize("way", [0, 1])
def test_a_body_of_endless_chunks_is_refused_and_the_refusal_can_be_read(stack, way):
    url, pids = ways_in(stack)[way], [*roles(stack.process("worker0")), stack.process("relay").pid]
    before = kib(pids)
    chunk = varint.encode(ohttp.MAX_CHUNK + 16) + bytes(ohttp.MAX_CHUNK + 16)
    sock, head = connect(url)
    with sock:
        sock.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
        first = live_header(stack) + os.urandom(1120)
        sock.sendall(b"%x\r\n%b\r\n" % (len(first), first))
        sock.setblocking(False)
        answer, sent = b"", 0
        frame = b"%x\r\n%b\r\n" % (len(chunk), chunk)
        while b"\r\n\r\n" not in answer and sent < 64 << 20:
            with contextlib.suppress(BlockingIOError):
                sent += sock.send(frame[sent % len(frame) :])
            with contextlib.suppress(BlockingIOError):
                answer += sock.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert 16 << 20 < sent < 48 << 20
    assert kib(pids) - before < 64 * MIB
    stack.until(stack.at_rest)


@pytest.mark.parametrize("way", [0, 1])
def test_who_writes_it_all_and_reads_then_is_told_that_it_was_too_much(stack, way):
    sock, head = connect(ways_in(stack)[way])
    with sock:
        sock.sendall(head + b"content-length: %d\r\n\r\n" % (20 << 20))
        for _ in range(20):
            sock.sendall(bytes(1 << 20))
        assert status_of(sock) == 413


def test_slow_bodies_and_slow_headers_keep_nobody_else_waiting(stack):
    with contextlib.ExitStack() as opened:
        for url in ways_in(stack):
            for index in range(100):
                sock, head = connect(url)
                opened.enter_context(sock)
                sock.sendall(head + b"content-length: 5000\r\n\r\nx" if index % 2 else head)
        began = time.monotonic()
        assert stack.chat().status_code == 200
        assert time.monotonic() - began < 10
        stack.until(stack.at_rest, timeout=10)  # a capsule waits for no body


@pytest.mark.soak
def test_slow_bodies_are_a_408_in_the_end(stack):
    for url, limit_s in zip(ways_in(stack), (60, 30), strict=True):
        sock, head = connect(url)
        sock.settimeout(limit_s + 15)
        with sock:
            sock.sendall(head + b"content-length: 5000\r\n\r\nx")
            began = time.monotonic()
            assert status_of(sock) == 408
            assert limit_s - 1 < time.monotonic() - began < limit_s + 10


@pytest.fixture(scope="module")
def second_relay(stack):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    stack.supervisor.start(
        "second-relay", "relay",
        *(word for url in stack.local.worker_urls for word in ("--worker", url)),
        "--log", stack.local.url(LOG), "--port", str(port),
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def ready():
        try:
            return httpx.get(f"{url}/health", trust_env=False).json()["nodes"] >= 2
        except httpx.HTTPError:
            return False

    stack.until(ready)
    return url


async def fresh_request(stack, http):
    """A good encapsulated request with a token of its own: (node, bytes, opener)."""
    policy = ClientPolicy(accepted_weaknesses=frozenset({"simulated", "compute-unverified"}))
    directory = NodeDirectory(
        trust=load_trust(stack.local.trust),
        policy=policy,
        relay_url=stack.local.url(RELAY),
        http=http,
    )
    wallet = Wallet(
        issuer_url=stack.local.url(ISSUER),
        account_key=stack.local.account_file.read_text().strip(),
        issuer_keys=directory.issuer_keys,
        http=http,
    )
    await wallet.refill()
    name = node_of(stack)
    node = next(
        each for each in (await directory.current()).nodes if each.key_document.node == name
    )
    body = b'{"max_tokens":2,"model":"tinychat","prompt":"Hello"}'
    minute = int(time.time()) // 60 * 60
    request = InnerRequest(b"POST", b"/v1/completions", body, minute, await wallet.take(1))
    config = next(c for c in node.key_document.key_configs if c.kem is Kem.XWING)
    return name, *ohttp.encapsulate_chunked(config, request.encode(), aead=AEAD)


@pytest.mark.parametrize("racers", [8, pytest.param(200, marks=pytest.mark.soak)])
def test_two_relays_racing_the_same_bytes_buy_one_answer(stack, second_relay, racers):
    async def race():
        limits = httpx.Limits(max_connections=SENDERS)
        async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as http:
            name, body, opener = await fresh_request(stack, http)
            relays = [stack.local.url(RELAY), second_relay]
            spent = stack.tokens_spent()
            answers = await asyncio.gather(
                *(
                    http.post(f"{relays[i % 2]}/{name}", content=body, headers=TYPE)
                    for i in range(racers)
                )
            )
            return answers, opener, stack.tokens_spent() - spent

    answers, opener, spent = asyncio.run(race())
    opened = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 503}
    statuses = sorted(status_inside(opener, answer.content) for answer in opened)
    assert statuses == [200] + [400] * (len(opened) - 1)
    assert len({len(answer.content) for answer in opened}) == 1, "the outside tells no winner"
    assert spent == 1


def status_inside(opener, content):
    again = ohttp.ChunkedResponseOpener(opener._context, opener._enc)
    clear = b"".join(again.feed(content)) + again.finish()
    return bhttp.decode_response(clear).status
