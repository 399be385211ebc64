"""Who sees what: the bytes that crossed between real processes, recorded and searched."""

import base64
import json
import re

import httpx
import pytest
from tap import Tap

from sottovoce.local import ISSUER, LOG, RELAY, WORKER

pytestmark = pytest.mark.xdist_group("stack")

CANARY = "xylophone-quartz-7341 sings beneath the aubergine moon"
API_KEY = "sk-canary-caller-key-99172"
USER = "canary-user-name-alice"
SDK_HEADER = "x-stainless-canary"

REQUEST_HEADERS = {b"host", b"content-type", b"transfer-encoding", b"incremental"}
"""All that may cross from relay to worker beside the body (`host` names the worker itself)."""


def forms(text):
    """The forms in which a text could cross in clear."""
    raw = text.encode()
    yield from (raw, raw.hex().encode(), text.encode("utf-16-le"), json.dumps(text).encode()[1:-1])
    for phase in range(3):
        # Cut at both ends, where the neighbours of the text show; too short a rest means nothing.
        encoded = base64.b64encode(b"\0" * phase + raw)[4:-4]
        if len(encoded) >= 8:
            yield encoded


@pytest.fixture(scope="module")
def recorded(stack):
    """A second relay and proxy beside the first, with taps before and behind that relay."""
    local, supervisor = stack.local, stack.supervisor
    at_workers = [Tap(local.port(WORKER + index)) for index in range(2)]
    relay_port, proxy_port = local.port(RELAY) + 40, local.port(RELAY) + 41
    at_relay = Tap(relay_port)
    supervisor.start(
        "tapped-relay", "relay",
        *(word for tap in at_workers for word in ("--worker", tap.url)),
        "--log", local.url(LOG), "--port", str(relay_port),
    )  # fmt: skip
    supervisor.start(
        "tapped-proxy", "proxy",
        "--trust", str(local.trust), "--relay", at_relay.url, "--issuer", local.url(ISSUER),
        "--account-key", str(local.account_file), "--state", str(local.directory("tapped-proxy")),
        "--accept", "simulated", "--accept", "compute-unverified", "--port", str(proxy_port),
    )  # fmt: skip
    url = f"http://127.0.0.1:{proxy_port}"
    stack.until(lambda: healthy(url))
    request = {
        "model": "tinychat",
        "max_tokens": 8,
        "messages": [{"role": "user", "content": CANARY}],
        "user": USER,
        "metadata": {"who": USER},
    }
    headers = {"authorization": f"Bearer {API_KEY}", SDK_HEADER: "1", "user-agent": "canary/1"}
    answer = httpx.post(
        f"{url}/v1/chat/completions", json=request, headers=headers, timeout=60, trust_env=False
    )
    assert answer.status_code == 200, answer.text
    return answer.json(), at_relay, at_workers


def healthy(url):
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_the_relay_never_sees_plaintext(recorded):
    answer, at_relay, _ = recorded
    seen = at_relay.bytes
    assert len(seen) > 4096
    text = answer["choices"][0]["message"]["content"]
    for secret in (CANARY, text, "chatcmpl-", "messages"):
        if len(secret) >= 8:
            assert not [form for form in forms(secret) if form in seen], secret


def test_the_relay_never_sees_a_token_or_an_account(recorded, stack):
    _, at_relay, _ = recorded
    account = stack.local.account_file.read_text().strip()
    for secret in (account, API_KEY, USER, "PrivateToken", "Bearer"):
        assert not [form for form in forms(secret) if form in at_relay.bytes], secret


def test_the_worker_never_sees_address_account_or_caller(recorded, stack):
    _, _, at_workers = recorded
    account = stack.local.account_file.read_text().strip()
    seen = b"".join(tap.bytes for tap in at_workers)
    for secret in (account, API_KEY, USER, CANARY, SDK_HEADER, "canary/1"):
        assert not [form for form in forms(secret) if form in seen], secret


def test_only_the_fixed_headers_reach_the_worker(recorded):
    _, _, at_workers = recorded
    heads = re.findall(
        rb"POST /gateway HTTP/1\.1\r\n(.*?)\r\n\r\n",
        b"".join(data for tap in at_workers for data in tap.requests),
        re.DOTALL,
    )
    assert heads
    for head in heads:
        names = {line.split(b":")[0].lower() for line in head.split(b"\r\n")}
        assert names <= REQUEST_HEADERS, names


def test_the_search_itself_finds_what_is_in_clear(recorded):
    """A search that finds nothing anywhere would prove nothing: node names do cross in clear."""
    answer, at_relay, _ = recorded
    assert answer["attestation"]["node"].encode() in at_relay.bytes
