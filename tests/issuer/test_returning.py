"""Exchange and refund over HTTP, issuer and spent-token store together, on both databases."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from issuer import spent
from issuer.errors import StoreUnavailable
from issuer.keys import IssuerKey, KeyRing, generate
from issuer.returning import Returning
from issuer.service import EXCEPTION_HANDLERS
from issuer.spent_client import SpentClient
from wire import privacy_pass
from wire.refund import (
    BATCH_TYPE,
    EXCHANGE_TYPE,
    MAX_BATCH,
    REFUSED,
    RefundItem,
    encode_batch,
    tickets,
)
from wire.token_life import EXCHANGE_S, KeyPeriod

pytestmark = pytest.mark.anyio

DAY = 86_400
START = int(time.time()) - 60 * DAY
OLD = KeyPeriod(START, START + 90 * DAY)
NEW = KeyPeriod(START + 45 * DAY, START + 135 * DAY)
CHALLENGE = privacy_pass.TokenChallenge("issuer.example", b"", "sottovoce.invalid")


def begin(key: IssuerKey) -> tuple[privacy_pass.TokenRequest, privacy_pass.PendingToken]:
    return privacy_pass.begin_issuance(
        CHALLENGE,
        key.spki,
        nonce=os.urandom(32),
        salt=os.urandom(privacy_pass.SALT_LENGTH),
        blind=os.urandom(privacy_pass.BLIND_LENGTH),
    )


def draw(key: IssuerKey) -> privacy_pass.Token:
    request, pending = begin(key)
    return pending.finish(key.blind_sign(request.blinded))


@pytest.fixture(scope="module")
def keys() -> Any:
    old, new = IssuerKey(generate(), OLD), IssuerKey(generate(), NEW)
    while new.truncated_key_id == old.truncated_key_id:
        new = IssuerKey(generate(), NEW)
    ring = KeyRing([old, new])
    yield ring
    ring.close()


@dataclass
class Parties:
    """The issuer's two resources in front of a real store, and a worker that spends."""

    issuer: httpx.AsyncClient
    store: httpx.AsyncClient
    keys: KeyRing
    now: float = field(default_factory=time.time)

    @property
    def new(self) -> IssuerKey:
        return self.keys.keys[0]

    @property
    def old(self) -> IssuerKey:
        return self.keys.keys[1]

    async def exchange(
        self, token: privacy_pass.Token | bytes, request: privacy_pass.TokenRequest
    ) -> httpx.Response:
        shown = token if isinstance(token, bytes) else token.encode()
        headers = {"content-type": EXCHANGE_TYPE}
        return await self.issuer.post(
            "/token-exchange", content=shown + request.encode(), headers=headers
        )

    async def spend(self, *tokens: privacy_pass.Token) -> tuple[bytes, ...]:
        """Spend as a worker does; return the tickets."""
        spend_id, key_id = os.urandom(16), tokens[0].key_id
        rows = [privacy_pass.spent_row(key_id, token.nonce) for token in tokens]
        members = {
            "spend_id": spend_id.hex(),
            "key_id": key_id.hex(),
            "rows": [row.hex() for row in rows],
        }
        response = await self.store.post("/spend", json=members)
        assert response.status_code == 200, response.text
        return tickets(spend_id, key_id, rows)

    async def refund(self, *items: RefundItem) -> list[bytes]:
        response = await self.issuer.post(
            "/refund", content=encode_batch(items), headers={"content-type": BATCH_TYPE}
        )
        assert response.status_code == 200, response.text
        content = response.content
        return [content[start : start + 256] for start in range(0, len(content), 256)]


def application(returning: Returning) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {}

    return Starlette(
        routes=returning.routes(), lifespan=lifespan, exception_handlers=EXCEPTION_HANDLERS
    )


@asynccontextmanager
async def together(serving: Any, keys: KeyRing, database_url: str) -> AsyncIterator[Parties]:
    async with serving(spent.application(database_url)) as store:
        client = SpentClient.__new__(SpentClient)
        client._client = store
        parties = Parties(store, store, keys)
        returning = Returning(keys, client, CHALLENGE.digest, lambda: parties.now)
        app = application(returning)
        async with serving(app) as issuer:
            parties.issuer = issuer
            yield parties


@pytest.fixture
async def parties(serving: Any, keys: KeyRing, database_url: str) -> AsyncIterator[Parties]:
    async with together(serving, keys, database_url) as found:
        yield found


@pytest.fixture
async def one_database(serving: Any, keys: KeyRing, sqlite_url: str) -> AsyncIterator[Parties]:
    """For what does not depend on the database."""
    async with together(serving, keys, sqlite_url) as found:
        yield found


def outcome(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


# ---- exchange ----


async def test_a_token_of_the_old_key_becomes_one_of_the_new(parties: Parties) -> None:
    request, pending = begin(parties.new)
    response = await parties.exchange(draw(parties.old), request)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    privacy_pass.verify_token(pending.finish(response.content), parties.new.spki, CHALLENGE.digest)


async def test_of_eight_racing_exchanges_of_one_token_one_is_answered(parties: Parties) -> None:
    token = draw(parties.old)
    requests = [begin(parties.new)[0] for _ in range(8)]
    answers = await asyncio.gather(*(parties.exchange(token, request) for request in requests))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7


async def test_the_same_exchange_again_gives_the_same_token_and_no_second(
    parties: Parties,
) -> None:
    token, (request, _) = draw(parties.old), begin(parties.new)
    answers = await asyncio.gather(*(parties.exchange(token, request) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


async def test_an_exchanged_token_cannot_be_spent_and_a_spent_one_not_exchanged(
    parties: Parties,
) -> None:
    exchanged, used = draw(parties.old), draw(parties.old)
    assert (await parties.exchange(exchanged, begin(parties.new)[0])).status_code == 200
    with pytest.raises(AssertionError, match="spent"):
        await parties.spend(exchanged)
    await parties.spend(used)
    assert outcome(await parties.exchange(used, begin(parties.new)[0])) == (409, "spent")


async def test_an_exchange_cannot_be_refunded_by_one_who_knows_all_of_it(
    parties: Parties,
) -> None:
    """Its client can compute the ticket: everything in it is public to the client."""
    token, (request, _) = draw(parties.old), begin(parties.new)
    assert (await parties.exchange(token, request)).status_code == 200
    spend_id = hashlib.sha256(token.encode() + request.encode()).digest()[:16]
    row = privacy_pass.spent_row(token.key_id, token.nonce)
    (ticket,) = tickets(spend_id, token.key_id, [row])
    assert await parties.refund(RefundItem(ticket, begin(parties.new)[0])) == [REFUSED]


async def test_a_worker_that_spends_under_the_spend_id_of_an_exchange_gains_nothing(
    parties: Parties,
) -> None:
    """Else it would hold a ticket, and have the exchange taken for a repetition of its spend."""
    token, (request, _) = draw(parties.old), begin(parties.new)
    spend_id = hashlib.sha256(token.encode() + request.encode()).digest()[:16]
    row = privacy_pass.spent_row(token.key_id, token.nonce)
    members = {"spend_id": spend_id.hex(), "key_id": token.key_id.hex(), "rows": [row.hex()]}
    assert (await parties.store.post("/spend", json=members)).status_code == 200
    assert outcome(await parties.exchange(token, request)) == (409, "spent")
    (ticket,) = tickets(spend_id, token.key_id, [row])
    items = [RefundItem(ticket, begin(parties.new)[0]) for _ in range(2)]
    signatures = await parties.refund(*items)
    assert sum(signature != REFUSED for signature in signatures) == 1


async def test_after_retirement_only_the_exchange_is_left_and_then_nothing(
    one_database: Parties,
) -> None:
    parties = one_database
    token, (request, _) = draw(parties.old), begin(parties.new)
    parties.now = OLD.not_after + EXCHANGE_S
    assert outcome(await parties.exchange(token, request)) == (422, "unknown_key")
    parties.now = OLD.not_after + EXCHANGE_S - 1
    assert (await parties.exchange(token, request)).status_code == 200


async def test_a_key_whose_rows_were_dropped_exchanges_nothing(parties: Parties) -> None:
    # A new database: keys of other tests are not retired in it.
    token = draw(parties.old)
    await parties.exchange(token, begin(parties.new)[0])
    members = {"key_id": parties.old.key_id.hex()}
    assert (await parties.store.post("/retire", json=members)).json() == {"dropped": 1}
    answer = await parties.exchange(token, begin(parties.new)[0])
    assert outcome(answer) == (409, "key_retired")


async def test_what_is_no_token_of_the_old_key_is_refused_and_spends_nothing(
    one_database: Parties,
) -> None:
    parties = one_database
    good, (request, _) = draw(parties.old), begin(parties.new)
    forged = privacy_pass.Token(bytes(32), good.challenge_digest, good.key_id, good.signature)
    elsewhere = privacy_pass.Token(good.nonce, bytes(32), good.key_id, good.signature)
    unknown = privacy_pass.Token(good.nonce, good.challenge_digest, bytes(32), good.signature)
    for token, expected in (
        (forged, (403, "token_refused")),
        (elsewhere, (403, "token_refused")),
        (unknown, (422, "unknown_key")),
        (draw(parties.new), (422, "unknown_key")),
        (good.encode()[:-1], (422, "malformed")),
        (good.encode() + b"\0", (422, "malformed")),
    ):
        assert outcome(await parties.exchange(token, request)) == expected
    too_large = privacy_pass.TokenRequest(parties.new.truncated_key_id, b"\xff" * 256)
    assert outcome(await parties.exchange(good, too_large)) == (422, "blinded_out_of_range")
    assert outcome(await parties.exchange(good, begin(parties.old)[0])) == (422, "unknown_key")
    assert (await parties.exchange(good, request)).status_code == 200


async def test_an_exchange_needs_no_account_and_its_own_media_type(
    one_database: Parties,
) -> None:
    body = draw(one_database.old).encode() + begin(one_database.new)[0].encode()
    post = one_database.issuer.post
    assert outcome(await post("/token-exchange", content=body)) == (415, "wrong_media_type")
    assert outcome(await post("/refund", content=body)) == (415, "wrong_media_type")
    assert (await one_database.issuer.get("/token-exchange")).status_code == 405


# ---- refund ----


async def test_a_spent_token_comes_back_as_one_new_token(parties: Parties) -> None:
    due = await parties.spend(draw(parties.old), draw(parties.old))
    begun = [begin(parties.new) for _ in due]
    items = [RefundItem(ticket, r) for ticket, (r, _) in zip(due, begun, strict=True)]
    for (_, pending), signature in zip(begun, await parties.refund(*items), strict=True):
        token = pending.finish(signature)
        privacy_pass.verify_token(token, parties.new.spki, CHALLENGE.digest)


async def test_a_ticket_is_good_for_one_blinded_message_only(parties: Parties) -> None:
    (ticket,) = await parties.spend(draw(parties.old))
    first, other = begin(parties.new)[0], begin(parties.new)[0]
    (signature,) = await parties.refund(RefundItem(ticket, first))
    assert signature != REFUSED
    assert await parties.refund(RefundItem(ticket, other)) == [REFUSED]
    # The same again is the same token: nothing is gained, and a lost answer can be asked for.
    assert await parties.refund(RefundItem(ticket, first)) == [signature]
    assert await parties.refund(RefundItem(ticket, first), RefundItem(ticket, other)) == [
        signature,
        REFUSED,
    ]


async def test_of_eight_racing_refunds_of_one_ticket_one_is_signed(parties: Parties) -> None:
    (ticket,) = await parties.spend(draw(parties.old))
    items = [RefundItem(ticket, begin(parties.new)[0]) for _ in range(8)]
    answers = await asyncio.gather(*(parties.refund(item) for item in items))
    assert sum(answer != [REFUSED] for answer in answers) == 1


async def test_no_more_comes_back_than_was_spent(parties: Parties) -> None:
    """A worker that lies about what was used still cannot make tokens."""
    due = await parties.spend(draw(parties.old), draw(parties.old))
    invented = [hashlib.sha256(ticket).digest() for ticket in due] + [os.urandom(32)]
    items = [RefundItem(ticket, begin(parties.new)[0]) for ticket in (*due, *invented)]
    signatures = await parties.refund(*items)
    assert [signature != REFUSED for signature in signatures] == [True] * 2 + [False] * 3


async def test_a_refunded_token_stays_spent(parties: Parties) -> None:
    token = draw(parties.old)
    (ticket,) = await parties.spend(token)
    await parties.refund(RefundItem(ticket, begin(parties.new)[0]))
    with pytest.raises(AssertionError, match="spent"):
        await parties.spend(token)


async def test_one_bad_item_does_not_spoil_the_batch_of_the_others(one_database: Parties) -> None:
    parties = one_database
    due = await parties.spend(*(draw(parties.old) for _ in range(4)))
    unknown = next(
        n for n in range(256) if n not in {key.truncated_key_id for key in parties.keys.keys}
    )
    bad = [
        privacy_pass.TokenRequest(parties.new.truncated_key_id, b"\xff" * 256),
        privacy_pass.TokenRequest(unknown, begin(parties.new)[0].blinded),
    ]
    requests = [bad[0], begin(parties.new)[0], bad[1], begin(parties.new)[0]]
    items = [RefundItem(ticket, r) for ticket, r in zip(due, requests, strict=True)]
    signatures = await parties.refund(*items)
    assert [signature != REFUSED for signature in signatures] == [False, True, False, True]
    # What was refused for its message can be asked for again with a better one.
    assert await parties.refund(RefundItem(due[0], begin(parties.new)[0])) != [REFUSED]


async def test_a_ticket_runs_out(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    (ticket,) = await parties.spend(draw(parties.old))
    now = time.time()
    monkeypatch.setattr(spent.time, "time", lambda: now + 2 * 3600)
    assert await parties.refund(RefundItem(ticket, begin(parties.new)[0])) == [REFUSED]


async def test_anything_but_a_batch_is_422(one_database: Parties) -> None:
    item = encode_batch([RefundItem(bytes(32), begin(one_database.new)[0])])
    headers = {"content-type": BATCH_TYPE}
    for body in (b"", item[:-1], item + b"\0", item * (MAX_BATCH + 1), bytes(len(item))):
        response = await one_database.issuer.post("/refund", content=body, headers=headers)
        assert outcome(response) == (422, "malformed")


async def test_without_the_store_nothing_is_signed(
    serving: Any, keys: KeyRing, tmp_path: Any
) -> None:
    client = SpentClient(tmp_path / "absent")
    returning = Returning(keys, client, CHALLENGE.digest)
    old, new = keys.keys[1], keys.keys[0]
    app = application(returning)
    async with serving(app) as issuer:
        parties = Parties(issuer, issuer, keys)
        token, (request, _) = draw(old), begin(new)
        assert outcome(await parties.exchange(token, request)) == (503, "unavailable")
        with pytest.raises(StoreUnavailable):
            await returning.refund(encode_batch([RefundItem(bytes(32), request)]))
    await client.close()
