"""A whole exchange with a client that holds none of our code: token, message and encapsulation."""

import pytest
from serving import serving

from issuer.accounts import add_account
from issuer.app import IssuerConfig, application
from issuer.keys import IssuerKey, KeyRing, generate
from wire import bhttp, hpke, inner, ohttp, padding, privacy_pass
from wire.hpke import Aead, Kdf, Kem, PrivateKey
from wire.key_config import KeyConfig, encode_list
from wire.privacy_pass import TokenChallenge

CHALLENGE = TokenChallenge("issuer.sottovoce.invalid", b"", "sottovoce.invalid")
KEY = PrivateKey.generate(Kem.XWING, b"\x07" * 32)
CONFIG = KeyConfig(1, Kem.XWING, KEY.public_bytes, ((Kdf.HKDF_SHA256, Aead.AES_128_GCM),))
DATE = 1_800_000_000
BODY = b'{"model":"tiny","messages":[{"role":"user","content":"hello"}],"stream":true}'
EVENTS = [padding.pad_event(b'{"n":%d}' % n) for n in range(3)] + [padding.pad_event(b"[DONE]")]


@pytest.fixture
def issuer_key():
    with IssuerKey(generate()) as key:
        yield key


@pytest.fixture
def authorization(peer, issuer_key, tmp_path):
    """An Authorization value with a token that their client drew at our issuer."""
    database = f"sqlite:///{tmp_path}/accounts.sqlite"
    config = IssuerConfig("127.0.0.1", 0, database, (), CHALLENGE.issuer_name)
    account_key = add_account(database, 1)
    with serving(application(config, KeyRing([issuer_key]))) as url:
        drawn = peer("privacy_pass_client.mjs").call(
            "fetch_token",
            challenge=privacy_pass.format_challenge(CHALLENGE, issuer_key.spki).decode(),
            issuer_url=url,
            account_key=account_key,
        )
    return drawn["authorization"]


def test_a_node_understands_a_client_of_others_and_is_understood(peer, issuer_key, authorization):
    their_bhttp, their_ohttp = peer("bhttp.mjs"), peer("ohttp_client.mjs")
    headers = {
        "content-type": "application/json",
        "date": inner.http_date(DATE).decode(),
        "authorization": authorization,
    }
    url = "https://sottovoce.invalid/v1/chat/completions"
    message = their_bhttp.call(
        "encode_request", method="POST", url=url, headers=headers, content=BODY
    )["message"]
    asked = their_ohttp.call(
        "encapsulate",
        library="panva",
        keys=encode_list([CONFIG]),
        kem=Kem.XWING,
        aead=Aead.AES_128_GCM,
        pieces=[message],
        chunked=True,
    )

    # Ours: open, parse, verify the token.
    header, enc, rest = ohttp.split(bytes.fromhex(asked["encapsulated_request"]))
    info = ohttp.request_info(header, chunked=True)
    context = hpke.setup_recipient(header.suite, KEY, enc, info)
    request = inner.parse_request(bhttp.decode_request(ohttp.open_chunked_request(context, rest)))
    assert (request.path, request.body, request.date) == (b"/v1/chat/completions", BODY, DATE)
    (token,) = request.tokens
    privacy_pass.verify_token(token, issuer_key.spki, CHALLENGE.digest)

    # Ours: one event, one BHTTP chunk, one OHTTP chunk.
    sealer = ohttp.ChunkedResponseSealer(context, enc, bytes(range(16)))
    encoder = bhttp.ResponseEncoder()
    head = encoder.head(200, ((b"content-type", b"text/event-stream"),))
    response = sealer.start() + sealer.chunk(head)
    response += b"".join(sealer.chunk(encoder.content(event)) for event in EVENTS)
    response += sealer.final(encoder.end())

    opened = their_ohttp.call("open", exchange=asked["exchange"], encapsulated_response=response)
    assert len(opened["pieces"]) == len(EVENTS) + 2
    answer = their_bhttp.call("decode_response", message="".join(opened["pieces"]))
    assert (answer["status"], answer["headers"]) == (200, [["content-type", "text/event-stream"]])
    assert bytes.fromhex(answer["content"]) == b"".join(EVENTS)
