"""Callers that hang up: what they asked for stops at once, and nobody else notices."""

import asyncio
import json
import random
import re
import time

import httpx
import pytest

from tests.path.test_completions import MESSAGES, MODEL, check_attestation

pytestmark = pytest.mark.xdist_group("stack")

STREAMS = 64
LONG = {"model": MODEL, "messages": MESSAGES, "ignore_eos": True, "max_tokens": 150}
"""An answer that does not end by itself before it is long."""


def metric(url, name):
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])


def used_up(stack, before):
    """Whether a capsule of `before` has ended, and none is in use."""
    now = {name: stack.capsules(name) for name in before}
    return now != before and stack.at_rest()


async def hang_up_after(stack, body, delay_s):
    """Send a request, read for a while, close; return what had come."""
    port = int(stack.base_url.split(":")[2].split("/")[0])
    content = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}"
    )
    writer.write(head.encode() + b"\r\n\r\n" + content)
    received = b""
    try:
        async with asyncio.timeout(delay_s):
            while data := await reader.read(65536):
                received += data
    except TimeoutError:
        pass
    writer.transport.abort()
    return received


@pytest.mark.parametrize("streamed", [False, True])
def test_what_nobody_waits_for_stops(stack, streamed):
    body = {**LONG, "stream": streamed, "n": 8, "max_tokens": 250}
    began = time.monotonic()
    whole = stack.chat(**{**body, "stream": False}, timeout=110)
    lasts = time.monotonic() - began
    assert whole.status_code == 200
    stack.until(stack.at_rest)
    capsules = {name: stack.capsules(name) for name in ("worker0", "worker1")}
    received = asyncio.run(hang_up_after(stack, body, lasts / 4))
    assert b"[DONE]" not in received
    began = time.monotonic()
    stack.until(lambda: used_up(stack, capsules))
    assert time.monotonic() - began < lasts / 2


def test_a_third_of_many_streams_hang_up_and_the_others_get_it_all(stack):
    chance = random.Random(64)

    async def stay(client):
        body = {**LONG, "stream": True, "max_tokens": 30}
        for _ in range(8):  # two workers have room for just so many, and the hung up go in a moment
            answer = await client.post(f"{stack.base_url}/chat/completions", json=body)
            if answer.status_code != 503 or "retry-after" not in answer.headers:
                break
            await asyncio.sleep(float(answer.headers["retry-after"]))
        return answer.status_code, answer.text

    async def main():
        limits = httpx.Limits(max_connections=STREAMS)
        async with httpx.AsyncClient(trust_env=False, timeout=120, limits=limits) as client:
            staying, leaving = [], []
            for number in range(STREAMS):
                if number % 3:
                    staying.append(stay(client))
                else:
                    body = {**LONG, "stream": bool(number % 2)}
                    leaving.append(hang_up_after(stack, body, chance.uniform(0, 2)))
            answers, _ = await asyncio.gather(asyncio.gather(*staying), asyncio.gather(*leaving))
            return answers

    root = stack.base_url.removesuffix("/v1")
    stack.until(lambda: metric(root, "sottovoce_proxy_tokens") >= STREAMS)
    answers = asyncio.run(main())
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200}
    for _, text in answers:
        payloads = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
        assert payloads[-1] == "[DONE]"
        check_attestation(json.loads(payloads[-2])["attestation"])
    stack.until(stack.at_rest)
    assert stack.chat().status_code == 200
