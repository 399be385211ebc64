"""Whatever is done to a relay, nothing it writes knows a client, a node, a path or a field."""

import asyncio
import contextlib
import json
import signal

import pytest

from relay.logs import WithoutDetail

pytestmark = pytest.mark.anyio

NODE = "ab" * 32
CANARY = "canary-72-periwinkle"
HEAD = f"POST /{NODE} HTTP/1.1\r\nhost: {CANARY}\r\ncontent-type: message/ohttp-req\r\n"

ATTACKS = {
    "a good request": f"{HEAD}x-{CANARY}: {CANARY}\r\ncontent-length: 1\r\n\r\nx",
    "no HTTP": f"{CANARY}\r\n\r\n",
    "a bad field": f"{HEAD}bad field {CANARY}\r\n\r\n",
    "bytes in the path": f"GET /\xff{CANARY} HTTP/1.1\r\nhost: a\r\n\r\n",
    "an encoded path": f"GET /%ff%00{CANARY}?{CANARY} HTTP/1.1\r\nhost: a\r\n\r\n",
    "a long path": f"GET /{CANARY * 5000} HTTP/1.1\r\nhost: a\r\n\r\n",
    "another node": f"POST /{CANARY} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    "another method": f"{CANARY.upper()} /{NODE} HTTP/1.1\r\nhost: a\r\n\r\n",
    "another type": f"POST /{NODE} HTTP/1.1\r\nhost: a\r\ncontent-type: {CANARY}\r\n\r\n",
    "odd lengths": f"{HEAD}content-length: {'9' * 19}\r\n\r\n",
    "odder lengths": f"{HEAD}content-length: {CANARY}\r\n\r\n",
    "two lengths": f"{HEAD}content-length: 1\r\ncontent-length: 2\r\n\r\n",
    "bad chunks": f"{HEAD}transfer-encoding: chunked\r\n\r\n{CANARY}\r\n",
    "half a body": f"{HEAD}content-length: 100\r\n\r\n{CANARY}",
    "an upgrade": f"{HEAD}connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n",
    "an expectation": f"{HEAD}expect: {CANARY}\r\ncontent-length: 0\r\n\r\n",
    "a tunnel": f"CONNECT {CANARY}:443 HTTP/1.1\r\nhost: {CANARY}\r\n\r\n",
    "a document": f"GET /tile/{CANARY} HTTP/1.1\r\nhost: a\r\n\r\n",
    "half a head": f"GET /{CANARY}",
}


async def attack(relay, data):
    """Send, read what comes for a moment, and hang up; return the address it came from."""
    reader, writer = await relay.connect()
    port = writer.get_extra_info("sockname")[1]
    writer.write(data.encode("latin-1"))
    with contextlib.suppress(TimeoutError, ConnectionError):
        await asyncio.wait_for(reader.read(), 0.3)
    writer.close()
    return port


async def test_nothing_written_knows_a_client_a_node_a_path_or_a_field(fakes, relay_process):
    worker = fakes[0]()

    async def script(exchange):
        await exchange.start(headers=[("content-type", "message/ohttp-res"), ("x-worker", CANARY)])
        await exchange.send(CANARY.encode())
        exchange.writer.close()  # cut: the relay's server remarks on it

    worker.scripts["/gateway"] = script
    changes = {"unlimited": (), "requests_per_s": 1.0, "burst": 30, "head_timeout_s": 0.2}
    async with worker.running(), relay_process(worker, **changes) as relay:
        ports = [await attack(relay, data) for _ in range(2) for data in ATTACKS.values()]
        flood = await asyncio.gather(
            *(attack(relay, ATTACKS["a good request"]) for _ in range(100))
        )
        relay.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(relay.process.wait, 20) == 0
        written = relay.written.decode("latin-1")
    assert written, "the cut answers are remarked on, or this test proves nothing"
    secrets = ["127.0.0.1", NODE, CANARY, "ohttp", "/gateway", "/tile", "Traceback"]
    secrets += [f":{port}" for port in ports + flood]
    assert not [secret for secret in secrets if secret.lower() in written.lower()]
    assert {line.split(":")[0] for line in written.splitlines()} <= {
        "WARNING uvicorn.error",
        "ERROR uvicorn.error",
        "ERROR relay",
    }, "every line is one event; none continues with what somebody sent"


def test_an_exception_is_written_as_its_type_and_its_place():
    try:
        json.loads(CANARY)
    except ValueError as error:
        text = WithoutDetail().formatException((type(error), error, error.__traceback__))
    assert text.startswith("JSONDecodeError at decoder.py:")
    assert CANARY not in text
