"""The spent-token store over HTTP: the protocol and its refusals."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from issuer import database
from issuer.errors import MalformedRequest
from issuer.spent import (
    BODY_LIMIT,
    REFUND_BODY_LIMIT,
    application,
    parse_exchange,
    parse_refunds,
    parse_retire,
    parse_spend,
)

pytestmark = pytest.mark.anyio

Serving = Callable[[Starlette], AbstractAsyncContextManager[httpx.AsyncClient]]

SPEND_ID = "0f" * 16
KEY_ID = "2e" * 32
ROWS = [f"{number:064x}" for number in range(8)]
GOOD = {"spend_id": SPEND_ID, "key_id": KEY_ID, "rows": ROWS[:2]}


@pytest.fixture
async def client(serving: Serving, sqlite_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(application(sqlite_url)) as client:
        yield client


def outcome(response: httpx.Response) -> tuple[int, str | None]:
    return response.status_code, response.json().get("error", {}).get("code")


async def test_rows_are_spent_once_and_repeated_answers_are_equal(
    client: httpx.AsyncClient,
) -> None:
    for _ in range(2):
        response = await client.post("/spend", json=GOOD)
        assert (response.status_code, response.json()) == (200, {})
    response = await client.post("/spend", json=GOOD | {"spend_id": "aa" * 16})
    assert outcome(response) == (409, "spent")
    response = await client.post("/spend", json=GOOD | {"rows": ROWS})
    assert outcome(response) == (409, "spent")
    response = await client.post("/spend", json=GOOD | {"rows": ROWS[2:]})
    assert outcome(response) == (200, None)


async def test_of_eight_racing_requests_one_is_answered_200(
    serving: Serving, database_url: str
) -> None:
    async with serving(application(database_url)) as client:
        spends = [GOOD | {"spend_id": f"{number:032x}"} for number in range(8)]
        responses = await asyncio.gather(*(client.post("/spend", json=spend) for spend in spends))
    assert sorted(response.status_code for response in responses) == [200] + [409] * 7


async def test_a_retired_key_is_dropped_and_refused(client: httpx.AsyncClient) -> None:
    await client.post("/spend", json=GOOD)
    response = await client.post("/retire", json={"key_id": KEY_ID})
    assert (response.status_code, response.json()) == (200, {"dropped": 2})
    assert outcome(await client.post("/spend", json=GOOD)) == (409, "key_retired")


MALFORMED = [
    b"",
    b"null",
    b"[]",
    b"{}",
    json.dumps(GOOD).encode()[:-1],
    json.dumps(GOOD).encode() + b"x",
    b"\xff" + json.dumps(GOOD).encode(),
    json.dumps(GOOD).replace('"key_id"', '"rows": [], "key_id"').encode(),
    *(
        json.dumps(spend).encode()
        for spend in (
            {name: value for name, value in GOOD.items() if name != "spend_id"},
            GOOD | {"account": "a"},
            GOOD | {"spend_id": None},
            GOOD | {"spend_id": SPEND_ID[:-2]},
            GOOD | {"spend_id": SPEND_ID + "00"},
            GOOD | {"spend_id": SPEND_ID.upper()},
            GOOD | {"key_id": KEY_ID[:-2]},
            GOOD | {"key_id": KEY_ID.replace("2e", "zz")},
            GOOD | {"key_id": 7},
            GOOD | {"rows": []},
            GOOD | {"rows": "00" * 32},
            GOOD | {"rows": {"0": ROWS[0]}},
            GOOD | {"rows": [*ROWS, "ff" * 32]},
            GOOD | {"rows": [ROWS[0], None]},
            GOOD | {"rows": [" " + ROWS[0]]},
            GOOD | {"rows": [ROWS[0][:-2]]},
        )
    ),
]


@pytest.mark.parametrize("body", MALFORMED)
def test_anything_but_exactly_a_spend_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_spend(body)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"key_id":1}', json.dumps(GOOD).encode()])
def test_anything_but_exactly_a_retirement_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_retire(body)


EXCHANGE = {"spend_id": SPEND_ID, "key_id": KEY_ID, "row": ROWS[0], "binding": ROWS[1]}
REFUND = {"ticket": ROWS[0], "binding": ROWS[1]}


@pytest.mark.parametrize(
    "changed",
    [{"binding": None}, {"row": [ROWS[0]]}, {"rows": ROWS[:1]}, {"spend_id": KEY_ID}],
)
def test_anything_but_exactly_an_exchange_is_malformed(changed: dict[str, object]) -> None:
    parse_exchange(json.dumps(EXCHANGE).encode())
    with pytest.raises(MalformedRequest):
        parse_exchange(json.dumps(EXCHANGE | changed).encode())


@pytest.mark.parametrize(
    "refunds",
    [
        [],
        {},
        [REFUND] * 65,
        [[]],
        [REFUND | {"account": "a"}],
        [{"ticket": ROWS[0]}],
        [REFUND | {"ticket": ROWS[0].upper() + "A"}],
    ],
)
def test_anything_but_exactly_a_batch_of_refunds_is_malformed(refunds: object) -> None:
    largest = json.dumps({"refunds": [REFUND] * 64}).encode()
    assert len(parse_refunds(largest)) == 64
    assert len(largest) < REFUND_BODY_LIMIT
    with pytest.raises(MalformedRequest):
        parse_refunds(json.dumps({"refunds": refunds}).encode())


@pytest.mark.parametrize("path", ["/spend", "/exchange", "/retire"])
async def test_a_malformed_body_is_422_and_a_long_one_413(
    client: httpx.AsyncClient, path: str
) -> None:
    assert outcome(await client.post(path, content=b"{}")) == (422, "malformed")
    long = b" " * (BODY_LIMIT + 1)
    assert outcome(await client.post(path, content=long)) == (413, "body_too_large")
    assert (await client.get(path)).status_code == 405


async def test_a_store_without_its_database_says_503_and_spends_nothing(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_MS", 20)
    path = tmp_path / "spent.sqlite"
    async with serving(application(f"sqlite:///{path}")) as client:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert outcome(await client.post("/spend", json=GOOD)) == (503, "unavailable")
            assert outcome(await client.get("/health")) == (503, "unavailable")
        assert outcome(await client.get("/health")) == (200, None)
        response = await client.post("/spend", json=GOOD | {"spend_id": "bb" * 16})
        assert response.status_code == 200
