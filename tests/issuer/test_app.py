"""The issuer over HTTP: its directory, an issuance, and every refusal."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key
from starlette.applications import Starlette

from issuer import app, database, service
from issuer.accounts import add_account
from issuer.app import IssuerConfig, application
from issuer.errors import SigningFault, StoreUnavailable
from issuer.keys import IssuerKey, KeyRing, generate
from issuer.spent_client import SpentClient
from wire import privacy_pass
from wire.privacy_pass import ISSUER_DIRECTORY_TYPE, TOKEN_REQUEST_TYPE, TOKEN_RESPONSE_TYPE
from wire.token_life import EXCHANGE_S, KeyPeriod

pytestmark = pytest.mark.anyio

QUOTA = 20
Serving = Callable[[Starlette], AbstractAsyncContextManager[httpx.AsyncClient]]


def issuer(database_url: str, keys: KeyRing) -> Starlette:
    return application(IssuerConfig("127.0.0.1", 0, database_url, (), "issuer.example"), keys)


@pytest.fixture
def keys(issuer_pem: bytes) -> KeyRing:
    return KeyRing([IssuerKey(issuer_pem)])


@pytest.fixture
def account_key(sqlite_url: str) -> str:
    return add_account(sqlite_url, QUOTA)


@pytest.fixture
async def client(
    serving: Serving, sqlite_url: str, keys: KeyRing, account_key: str
) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(issuer(sqlite_url, keys)) as client:
        client.headers = {
            "content-type": TOKEN_REQUEST_TYPE,
            "authorization": f"Bearer {account_key}",
        }
        yield client


@pytest.fixture
def token_request(rfc9578: dict[str, Any]) -> bytes:
    return bytes.fromhex(rfc9578["cases"][0]["token_request"])


def code(response: httpx.Response) -> str:
    assert response.headers["cache-control"] == "no-store"
    return response.json()["error"]["code"]


async def test_the_directory_lists_the_keys(
    client: httpx.AsyncClient, rfc9578: dict[str, Any]
) -> None:
    response = await client.get("/.well-known/private-token-issuer-directory")
    assert response.status_code == 200
    assert response.headers["content-type"] == ISSUER_DIRECTORY_TYPE
    assert response.headers["cache-control"] == "public, max-age=3600"
    directory = response.json()
    assert directory["issuer-request-uri"] == "/token-request"
    (listed,) = directory["token-keys"]
    assert listed["token-type"] == 2
    spki = base64.urlsafe_b64decode(listed["token-key"])
    assert spki.hex() == rfc9578["pkS"]
    assert load_der_public_key(spki).key_size == 2048


async def test_the_published_issuances_are_reproduced(
    client: httpx.AsyncClient, rfc9578: dict[str, Any]
) -> None:
    for case in rfc9578["cases"]:
        response = await client.post("/token-request", content=bytes.fromhex(case["token_request"]))
        assert response.status_code == 200
        assert response.headers["content-type"] == TOKEN_RESPONSE_TYPE
        assert response.content.hex() == case["token_response"]


async def test_a_whole_issuance_gives_the_published_token(
    client: httpx.AsyncClient, rfc9578: dict[str, Any]
) -> None:
    spki = bytes.fromhex(rfc9578["pkS"])
    for case in rfc9578["cases"]:
        challenge = privacy_pass.TokenChallenge.decode(bytes.fromhex(case["token_challenge"]))
        request, pending = privacy_pass.begin_issuance(
            challenge,
            spki,
            nonce=bytes.fromhex(case["nonce"]),
            salt=bytes.fromhex(case["salt"]),
            blind=bytes.fromhex(case["blind"]),
        )
        response = await client.post("/token-request", content=request.encode())
        token = pending.finish(response.content)
        assert token.encode().hex() == case["token"]
        privacy_pass.verify_token(token, spki, challenge.digest)


async def test_media_types_are_compared_as_http_compares_them(
    client: httpx.AsyncClient, token_request: bytes
) -> None:
    headers = {"content-type": "Application/Private-Token-Request; v=1"}
    response = await client.post("/token-request", content=token_request, headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("content_type", ["", "application/octet-stream", TOKEN_RESPONSE_TYPE])
async def test_another_media_type_is_415(
    client: httpx.AsyncClient, token_request: bytes, content_type: str
) -> None:
    headers = {"content-type": content_type}
    response = await client.post("/token-request", content=token_request, headers=headers)
    assert (response.status_code, code(response)) == (415, "wrong_media_type")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_another_method_is_405(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/token-request")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Basic c3Y6", "Bearer a b", "Bearer sv-unknown"]
)
async def test_no_or_an_unknown_account_key_is_401(
    client: httpx.AsyncClient, token_request: bytes, authorization: str
) -> None:
    headers = {"authorization": authorization}
    response = await client.post("/token-request", content=token_request, headers=headers)
    assert (response.status_code, code(response)) == (401, "unknown_account")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("length", [0, 1, 2, 3, 258, 260, 100_000])
async def test_another_size_is_422(
    client: httpx.AsyncClient, token_request: bytes, length: int
) -> None:
    body = token_request.ljust(length, b"\0")[:length]
    response = await client.post("/token-request", content=body)
    assert (response.status_code, code(response)) == (422, "malformed")


@pytest.mark.parametrize("token_type", [0x0000, 0x0001, 0x0003, 0xDA7A, 0xFFFF])
async def test_another_token_type_is_422(
    client: httpx.AsyncClient, token_request: bytes, token_type: int
) -> None:
    body = token_type.to_bytes(2) + token_request[2:]
    response = await client.post("/token-request", content=body)
    assert (response.status_code, code(response)) == (422, "malformed")


async def test_an_unknown_key_is_422(client: httpx.AsyncClient, token_request: bytes) -> None:
    body = token_request[:2] + bytes([token_request[2] ^ 1]) + token_request[3:]
    response = await client.post("/token-request", content=body)
    assert (response.status_code, code(response)) == (422, "unknown_key")


async def test_a_blinded_message_not_below_the_modulus_is_422(
    client: httpx.AsyncClient, token_request: bytes, issuer_pem: bytes
) -> None:
    modulus = load_pem_private_key(issuer_pem, None).public_key().public_numbers().n
    for blinded in (modulus, modulus + 1, 2**2048 - 1):
        body = token_request[:3] + blinded.to_bytes(256)
        response = await client.post("/token-request", content=body)
        assert (response.status_code, code(response)) == (422, "blinded_out_of_range")


async def test_a_body_that_does_not_come_is_408(
    client: httpx.AsyncClient, token_request: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BODY_TIMEOUT_S", 0.05)

    async def stalling() -> AsyncIterator[bytes]:
        yield token_request[:100]
        await asyncio.sleep(30)

    response = await client.post("/token-request", content=stalling())
    assert (response.status_code, code(response)) == (408, "body_too_slow")


async def test_a_refused_request_costs_nothing_and_the_last_token_is_403(
    client: httpx.AsyncClient, token_request: bytes
) -> None:
    for body in (b"", token_request + b"\0", token_request[:3] + b"\xff" * 256):
        assert (await client.post("/token-request", content=body)).status_code == 422
    for _ in range(QUOTA):
        response = await client.post("/token-request", content=token_request)
        assert response.status_code == 200
    response = await client.post("/token-request", content=token_request)
    assert (response.status_code, code(response)) == (403, "quota_exhausted")


async def test_eight_racing_requests_never_overdraw(
    serving: Serving, keys: KeyRing, database_url: str, token_request: bytes
) -> None:
    account_key = await asyncio.to_thread(add_account, database_url, 3)
    headers = {"authorization": f"Bearer {account_key}", "content-type": TOKEN_REQUEST_TYPE}
    async with serving(issuer(database_url, keys)) as client:
        requests = [
            client.post("/token-request", content=token_request, headers=headers) for _ in range(8)
        ]
        statuses = sorted(response.status_code for response in await asyncio.gather(*requests))
    assert statuses == [200] * 3 + [403] * 5


async def test_a_faulty_signature_is_500_and_costs_nothing(
    client: httpx.AsyncClient,
    sqlite_url: str,
    token_request: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account_key = await asyncio.to_thread(add_account, sqlite_url, 1)
    headers = {"authorization": f"Bearer {account_key}"}

    def faulty(_: IssuerKey, __: bytes) -> bytes:
        raise SigningFault("planted")

    with monkeypatch.context() as patch:
        patch.setattr(IssuerKey, "blind_sign", faulty)
        response = await client.post("/token-request", content=token_request, headers=headers)
    assert (response.status_code, code(response)) == (500, "signing_fault")
    response = await client.post("/token-request", content=token_request, headers=headers)
    assert response.status_code == 200


async def test_a_database_that_does_not_answer_is_503(
    serving: Serving,
    keys: KeyRing,
    tmp_path: Path,
    token_request: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_MS", 20)
    path = tmp_path / "accounts.sqlite"
    headers = {"content-type": TOKEN_REQUEST_TYPE, "authorization": "Bearer sv-any"}
    async with serving(issuer(f"sqlite:///{path}", keys)) as client:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            response = await client.post("/token-request", content=token_request, headers=headers)
            assert (response.status_code, code(response)) == (503, "unavailable")
            response = await client.get("/health")
            assert (response.status_code, code(response)) == (503, "unavailable")
        response = await client.get("/health")
        assert response.status_code == 200
        assert response.json() == {"status": "ok", "issuer": "issuer.example"}


async def test_nothing_of_a_request_reaches_a_log_or_an_error(
    client: httpx.AsyncClient,
    account_key: str,
    token_request: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [
        await client.post("/token-request", content=token_request),
        await client.post("/token-request", content=token_request[:3] + b"\xff" * 256),
        await client.post(
            "/token-request", content=token_request, headers={"authorization": "Bearer sv-canary"}
        ),
    ]
    texts = [record.getMessage() + repr(record.args) for record in caplog.records]
    texts += [response.text for response in answers[1:]]
    secrets = [
        account_key,
        "canary",
        hashlib.sha256(account_key.encode()).hexdigest(),
        token_request[3:35].hex(),
        repr(token_request[3:35])[2:-1],
    ]
    assert not [text for text in texts for secret in secrets if secret in text]


async def test_the_rows_of_a_key_that_is_over_are_dropped_and_the_key_not_listed(
    serving: Serving, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time())
    old = IssuerKey(generate(), KeyPeriod(now - 10 * EXCHANGE_S, now - EXCHANGE_S))
    new = IssuerKey(generate(), KeyPeriod(now - EXCHANGE_S, now + EXCHANGE_S))
    while new.truncated_key_id == old.truncated_key_id:
        new = IssuerKey(generate(), new.period)
    retired: list[bytes] = []

    async def retire(_: SpentClient, key_id: bytes) -> None:
        retired.append(key_id)
        if len(retired) == 1:
            raise StoreUnavailable("not there yet")

    monkeypatch.setattr(SpentClient, "retire", retire)
    monkeypatch.setattr(app, "RETIRE_LOOK_S", 0.01)
    config = IssuerConfig("", 0, sqlite_url, (), "issuer.example", tmp_path / "spent", "o.invalid")
    async with serving(application(config, KeyRing([old, new]))) as client:
        while len(retired) < 2:  # noqa: ASYNC110 - a test may poll
            await asyncio.sleep(0.01)
        response = await client.get("/.well-known/private-token-issuer-directory")
    assert set(retired) == {old.key_id}
    (listed,) = response.json()["token-keys"]
    assert base64.urlsafe_b64decode(listed["token-key"]) == new.spki
    assert listed["not-before"] == new.period.not_before
