"""Bad input of every kind gets the documented 4xx, never a 5xx, and never an echo of the prompt."""

import base64
import json
import os

import httpx
import pytest

from attestation.bundle import Bundle
from sottovoce.local import RELAY, WORKER
from wire.hpke import Kem
from wire.key_document import KeyDocument

pytestmark = pytest.mark.xdist_group("stack")

CANARY = "canary-periwinkle-90210"
MESSAGE = {"role": "user", "content": CANARY}
CHAT = {"model": "tinychat", "messages": [MESSAGE]}


def post(stack, content, path="/chat/completions"):
    headers = {"content-type": "application/json"}
    return httpx.post(
        stack.base_url + path, content=content, headers=headers, timeout=60, trust_env=False
    )


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ('{"model":"tinychat","messages":[{"role":"user","content":"' + CANARY, 400, None),
        (json.dumps([CANARY]), 400, None),
        (json.dumps({**CHAT, "model": None}), 400, None),
        (json.dumps({**CHAT, "model": CANARY}), 404, "model_not_found"),
        (json.dumps({**CHAT, "messages": CANARY}), 400, None),
        (json.dumps({**CHAT, "messages": []}), 400, None),
        (json.dumps({**CHAT, "messages": [{"role": CANARY, "content": "x"}]}), 400, None),
        (json.dumps({**CHAT, "temperature": CANARY}), 400, None),
        (json.dumps({**CHAT, "temperature": 9}), 400, None),
        (json.dumps({**CHAT, "n": 0}), 400, None),
        (json.dumps({**CHAT, "max_tokens": -1}), 400, None),
        (json.dumps({**CHAT, "stop": [CANARY] * 9}), 400, None),
        (json.dumps({**CHAT, "stream_options": {"include_usage": True}}), 400, None),
        (
            json.dumps({**CHAT, "messages": [{"role": "user", "content": CANARY * 4000}]}),
            400,
            "context_length_exceeded",
        ),
        ('{"model":"tinychat","model":"tinychat","messages":[]}', 400, None),
        ("[" * 50_000, 400, None),
        ("", 400, None),
    ],
)
def test_bad_bodies_get_a_4xx_without_an_echo(stack, body, status, code):
    response = post(stack, body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert code is None or error["code"] == code
    assert CANARY not in response.text


def test_a_huge_body_is_413(stack):
    assert post(stack, b" " * (17 << 20)).status_code == 413


def test_unknown_paths_and_methods_are_openai_shaped(stack):
    for method, path, status in (
        ("GET", "/chat/completions", 405),
        ("POST", "/decisions", 404),
        ("GET", f"/models/{CANARY}", 404),
    ):
        response = httpx.request(method, stack.base_url + path, trust_env=False)
        assert response.status_code == status
        assert "message" in response.json()["error"]
        assert CANARY not in response.text


CHUNKED = {"content-type": "message/ohttp-chunked-req"}


def node_of(stack):
    health = httpx.get(f"{stack.local.url(WORKER)}/health", trust_env=False).json()
    return health["nodes"][0]


@pytest.mark.parametrize("where", ["relay", "worker"])
def test_garbage_ciphertext_is_422_and_unknown_keys_400(stack, where):
    offset, path = (RELAY, f"/{node_of(stack)}") if where == "relay" else (WORKER, "/gateway")
    url = stack.local.url(offset) + path
    garbage = [b"", b"\0", os.urandom(7), os.urandom(2000)]
    for body in garbage:
        response = httpx.post(url, content=body, headers=CHUNKED, trust_env=False)
        assert response.status_code in {400, 422}, (body[:8], response.status_code)
    # A header that names a live key and suite, with nothing behind it that opens.
    known = httpx.post(
        url, content=live_header(stack) + os.urandom(1120 + 500), headers=CHUNKED, trust_env=False
    )
    assert (known.status_code, known.content) == (422, b"")
    unknown = httpx.post(
        url, content=b"\xfe\x64\x7a\x00\x01\x00\x01" + os.urandom(1700), headers=CHUNKED,
        trust_env=False,
    )  # fmt: skip
    assert unknown.status_code == 400
    assert unknown.json()["type"].endswith("#ohttp-key")


def live_header(stack):
    """The 7 header bytes of the node's X-Wing config, taken from the public node document."""
    nodes = httpx.get(f"{stack.local.url(RELAY)}/nodes", trust_env=False).json()
    bundle = Bundle.decode(base64.b64decode(nodes["bundles"][node_of(stack)]))
    document = KeyDocument.decode(bundle.key_document)
    config = next(c for c in document.key_configs if c.kem is Kem.XWING)
    return bytes([config.key_id]) + b"\x64\x7a\x00\x01\x00\x01"


def test_other_media_types_methods_and_nodes_are_refused_in_clear(stack):
    relay = stack.local.url(RELAY)
    node = node_of(stack)
    wrong_type = httpx.post(f"{relay}/{node}", content=b"x", trust_env=False)
    assert wrong_type.status_code == 415
    assert httpx.get(f"{relay}/{node}", trust_env=False).status_code == 405
    unknown = httpx.post(f"{relay}/{'0' * 64}", content=b"x", headers=CHUNKED, trust_env=False)
    assert unknown.status_code == 404
    large = httpx.post(
        f"{relay}/{node}", content=b"x" * (18 << 20), headers=CHUNKED, trust_env=False
    )
    assert large.status_code == 413
