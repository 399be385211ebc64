"""Privacy Pass against @cloudflare/privacypass-ts: both roles of issuance, both HTTP fields."""

import asyncio
import time

import httpx
import pytest
from serving import serving

from client.wallet import Wallet
from issuer.accounts import add_account
from issuer.app import IssuerConfig, application
from issuer.keys import IssuerKey, KeyRing, generate
from transparency.leaf import IssuerKeyLeaf
from wire import privacy_pass
from wire.errors import Malformed
from wire.privacy_pass import TokenChallenge

ISSUER_NAME = "issuer.sottovoce.invalid"
FLEET = TokenChallenge(ISSUER_NAME, b"", "sottovoce.invalid")
BOUND = TokenChallenge("issuer.example", bytes(range(32)), "a.example,b.example")
QUOTA = 3
ISSUED = 2


@pytest.fixture(scope="module")
def theirs(peer):
    return peer("privacy_pass_client.mjs")


@pytest.fixture(scope="module")
def issuer_key():
    with IssuerKey(generate()) as key:
        yield key


@pytest.fixture
def our_issuer(tmp_path, issuer_key):
    """Our issuer on loopback: its URL, and the key of an account with `QUOTA` tokens."""
    database = f"sqlite:///{tmp_path}/accounts.sqlite"
    config = IssuerConfig("127.0.0.1", 0, database, (), ISSUER_NAME)
    account_key = add_account(database, QUOTA)
    with serving(application(config, KeyRing([issuer_key]))) as url:
        yield {"issuer_url": url, "account_key": account_key}


@pytest.fixture(scope="module")
def their_issuer(peer):
    """Their issuer on loopback: its URL and its key."""
    listening = peer("privacy_pass_issuer.mjs").call("listen")
    return listening["url"], bytes.fromhex(listening["token_key"])


def test_their_client_draws_at_our_issuer(theirs, our_issuer, issuer_key):
    """The whole flow of theirs: our challenge, our directory, our issuance; our origin redeems."""
    challenge = privacy_pass.format_challenge(FLEET, issuer_key.spki).decode()
    nonces = set()
    for _ in range(ISSUED):
        drawn = theirs.call("fetch_token", challenge=challenge, **our_issuer)
        token = privacy_pass.parse_authorization(drawn["authorization"].encode())
        privacy_pass.verify_token(token, issuer_key.spki, FLEET.digest)
        assert token.encode().hex() == drawn["token"]
        nonces.add(token.nonce)
    assert len(nonces) == ISSUED


def test_their_client_meets_our_quota(theirs, our_issuer, issuer_key, refused):
    challenge = privacy_pass.format_challenge(FLEET, issuer_key.spki).decode()
    for _ in range(QUOTA):
        theirs.call("fetch_token", challenge=challenge, **our_issuer)
    with pytest.raises(refused, match="code:403"):
        theirs.call("fetch_token", challenge=challenge, **our_issuer)


@pytest.mark.parametrize("appended", [b"\0", bytes(1000)])
def test_our_issuer_answers_an_overlong_request_422(
    theirs, our_issuer, issuer_key, refused, appended
):
    """RFC 9578, section 6.2: a request of another size MUST be refused so. Theirs signs it."""
    challenge = privacy_pass.format_challenge(FLEET, issuer_key.spki).decode()
    with pytest.raises(refused, match="code:422"):
        theirs.call("send_overlong", challenge=challenge, appended=appended, **our_issuer)


def test_our_wallet_draws_at_their_issuer(theirs, their_issuer, monkeypatch):
    monkeypatch.setattr("client.wallet.BATCH", ISSUED)
    url, token_key = their_issuer
    now = int(time.time())
    leaf = IssuerKeyLeaf(ISSUER_NAME, token_key, FLEET.encode(), now - 60, now + 3600)

    async def logged_keys():
        return [leaf]

    async def draw():
        async with httpx.AsyncClient(trust_env=False) as http:
            wallet = Wallet(
                issuer_url=url, account_key="unused", issuer_keys=logged_keys, http=http
            )
            await wallet.refill()
            return await wallet.take(ISSUED)

    for token in asyncio.run(draw()):
        privacy_pass.verify_token(token, token_key, FLEET.digest)
        authorization = privacy_pass.format_authorization(token).decode()
        redeemed = theirs.call("redeem", authorization=authorization, token_key=token_key)
        assert redeemed == {"verified": True, "token": token.encode().hex()}


def test_they_write_an_issuer_key_as_we_do(theirs, issuer_key):
    assert theirs.call("rewrite_key", token_key=issuer_key.spki) == {
        "token_key": issuer_key.spki.hex()
    }


# The two HTTP fields (RFC 9577, section 2).


@pytest.mark.parametrize("challenge", [FLEET, BOUND])
def test_they_read_our_challenges(theirs, issuer_key, challenge):
    value = privacy_pass.format_challenge(challenge, issuer_key.spki).decode()
    found = theirs.call("read_challenges", value=f"Basic, {value}, {value}")
    expected = {
        "token_type": privacy_pass.TOKEN_TYPE,
        "issuer_name": challenge.issuer_name,
        "redemption_context": challenge.redemption_context.hex(),
        "origin_info": challenge.origin_info.split(","),
        "encoded": challenge.encode().hex(),
        "token_key": issuer_key.spki.hex(),
        "max_age": None,
    }
    assert found == [expected, expected]


def write_challenge(theirs, challenge, spki, *, quoted):
    return theirs.call(
        "write_challenge",
        issuer_name=challenge.issuer_name,
        redemption_context=challenge.redemption_context,
        origin_info=challenge.origin_info.split(","),
        token_key=spki,
        max_age=600,
        quoted=quoted,
    )


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("challenge", [FLEET, BOUND])
def test_we_read_their_challenges(theirs, issuer_key, challenge, quoted):
    written = write_challenge(theirs, challenge, issuer_key.spki, quoted=quoted)
    assert written["encoded"] == challenge.encode().hex()
    (found,) = privacy_pass.parse_challenges(written["value"].encode())
    assert (found.challenge, found.spki, found.max_age) == (challenge, issuer_key.spki, 600)


def test_padding_outside_quotes_is_refused_though_they_write_it(theirs, issuer_key):
    """`=` is in no token of RFC 9110, section 5.6.2, so RFC 9577 wants such a value quoted."""
    padded = TokenChallenge(ISSUER_NAME, b"", "www.example.com")
    quoted, bare = (
        write_challenge(theirs, padded, issuer_key.spki, quoted=quoted)["value"].encode()
        for quoted in (True, False)
    )
    assert privacy_pass.parse_challenges(quoted)[0].challenge == padded
    assert b"==," in bare
    with pytest.raises(Malformed):
        privacy_pass.parse_challenges(bare)
