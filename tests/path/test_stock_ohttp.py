"""A client that knows the well-known URL and standards, and nothing of ours, gets a completion.

It has no protection from the relay, whose word it takes for the keys: docs/spec/wire.md.
"""

import base64
import itertools
import json

import httpx
import pytest

from sottovoce.local import ISSUER, LOG, RELAY, WORKER
from tests.interop.conftest import MISSING, installed, running
from wire.hpke import Aead, Kem
from wire.key_config import decode_list
from wire.ohttp import KEYS_TYPE

pytestmark = pytest.mark.xdist_group("stack")

GATEWAY_PATH = "/.well-known/ohttp-gateway"
URL = "https://sottovoce.invalid/v1/chat/completions"
REQUEST = {
    "model": "tinychat",
    "max_tokens": 4,
    "messages": [{"role": "user", "content": "What is sottovoce?"}],
}


@pytest.fixture(scope="module")
def relay(stack):
    """A second relay beside the first, with `--stock-ohttp`; its URL."""
    local = stack.local
    port = local.port(RELAY) + 42
    stack.supervisor.start(
        "stock-relay", "relay", "--stock-ohttp",
        *(word for url in local.worker_urls for word in ("--worker", url)),
        "--log", local.url(LOG), "--port", str(port),
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    stack.until(lambda: answers(url))
    return url


def answers(url):
    try:
        return httpx.get(url + GATEWAY_PATH, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def client():
    if not installed():
        pytest.skip(MISSING)
    with running("stock_client.mjs") as program:
        yield program


def complete(stack, client, relay, **parameters):
    members = {"library": "panva", "kem": Kem.XWING, "aead": Aead.AES_128_GCM, "chunked": True}
    members |= parameters
    content = json.dumps(REQUEST | members.pop("request", {})).encode()
    answer = client.call(
        "post",
        host=relay,
        url=URL,
        content=content,
        issuer_url=stack.local.url(ISSUER),
        account_key=stack.local.account_file.read_text().strip(),
        **members,
    )
    return answer | {"content": bytes.fromhex(answer["content"])}


FORMS = {
    f"{kem.name}-{aead.name}-{form}": {"kem": kem, "aead": aead, "chunked": form == "chunked"}
    for kem, aead, form in itertools.product(Kem, Aead, ("plain", "chunked"))
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_stock_client_gets_a_completion(stack, client, relay, form):
    answer = complete(stack, client, relay, **form)
    assert (answer["status"], answer["content_type"]) == (200, "application/json")
    completion = json.loads(answer["content"])
    assert completion["choices"][0]["message"]["content"]
    assert base64.b64decode(completion["attestation"]["receipt"], validate=True)


def test_a_stock_client_of_another_library_gets_one_too(stack, client, relay):
    assert complete(stack, client, relay, library="dajiaji")["status"] == 200


def test_a_stock_client_gets_events(stack, client, relay):
    answer = complete(stack, client, relay, request={"stream": True})
    assert answer["content_type"] == "text/event-stream"
    lines = answer["content"].decode().splitlines()
    payloads = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert payloads[-1] == "[DONE]"
    assert json.loads(payloads[-2])["attestation"]["receipt"]


def test_the_collection_has_every_worker_s_configs_under_ids_of_their_own(stack, relay):
    collection = httpx.get(relay + GATEWAY_PATH, trust_env=False)
    assert collection.headers["content-type"] == KEYS_TYPE
    configs = decode_list(collection.content)  # refuses an id that is there twice
    assert [config.kem for config in configs] == [Kem.X25519, Kem.XWING] * 2
    workers = [
        httpx.get(f"{stack.local.url(WORKER + index)}/ohttp-keys", trust_env=False).content
        for index in range(2)
    ]
    assert b"".join(workers) == collection.content


def test_without_the_flag_a_relay_offers_no_keys(stack):
    relay = stack.local.url(RELAY)
    assert httpx.get(relay + GATEWAY_PATH, trust_env=False).status_code == 404
    headers = {"content-type": "message/ohttp-req"}
    answer = httpx.post(f"{relay}/ohttp", content=b"\0", headers=headers, trust_env=False)
    assert answer.status_code == 404
