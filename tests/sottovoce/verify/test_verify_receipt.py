"""A completion as the proxy hands it out, saved, and judged by its receipt afterwards."""

import asyncio
import base64
import json
from dataclasses import replace

import httpx
import pytest
from simulator import ACCOUNT_KEY, Node, World, signing_key

from attestation.bundle import Bundle
from attestation.verifier.policy import ClientPolicy
from client.canonical import canonical_body, parse_body
from client.exchange import Relay
from client.nodes import NodeDirectory
from client.sse import encode as event
from client.transport import Transport
from client.wallet import Wallet
from sottovoce.verify.completions import parse_response
from wire import receipt as receipt_format

ACCEPTED = frozenset({"simulated", "compute-unverified"})
REQUEST = b'{ "messages": [], "model": "tiny", "user": "me", "stop": null }'
STREAMED = b'{"messages":[],"model":"tiny","stream":true}'


async def send(world, request):
    """Send one request the private way; return the payloads as the proxy writes them."""
    app = httpx.ASGITransport(world.app())
    async with httpx.AsyncClient(transport=app) as http:
        directory = NodeDirectory(
            trust=world.trust(),
            policy=ClientPolicy(accepted_weaknesses=ACCEPTED),
            relay_url="http://relay",
            http=http,
        )
        wallet = Wallet(
            issuer_url="http://issuer",
            account_key=ACCOUNT_KEY,
            issuer_keys=directory.issuer_keys,
            http=http,
            anonymous=lambda: httpx.AsyncClient(transport=httpx.ASGITransport(world.app())),
        )
        await wallet.refill()
        relay = Relay("http://relay", app)
        transport = Transport(directory=directory, wallet=wallet, relay=relay)
        answer = await transport.send(
            b"/v1/chat/completions",
            canonical_body(parse_body(request)),
            model="tiny",
            on_verdict=lambda _: None,
        )
        return [payload async for payload in answer.payloads]


class Saved:
    """What a user has on disk afterwards."""

    def __init__(self, request):
        self.world, self.request = World(), request
        self.payloads = asyncio.run(send(self.world, request))
        self.response = self.payloads[0]
        if b'"stream":true' in request:
            self.response = b"".join(map(event, self.payloads))
        self.bundle = self.world.nodes[0].bundle
        last = next(each for each in reversed(self.payloads) if b"attestation" in each)
        self.attestation = json.loads(last)["attestation"]

    @property
    def files(self):
        return {"request": self.request, "response": self.response, "bundle": self.bundle}


@pytest.fixture(scope="module")
def whole():
    return Saved(REQUEST)


@pytest.fixture(scope="module")
def streamed():
    return Saved(STREAMED)


def steps(ended):
    return {step["step"]: step["outcome"] for step in ended.json["verification"]}


def test_what_the_proxy_answered_is_enough(verify, whole):
    ended = verify("receipt", **whole.files)
    assert ended.code == 0
    assert ended.json["kind"] == "receipt"
    assert ended.json["node"] == whole.world.nodes[0].id
    assert (ended.json["prompt_tokens"], ended.json["completion_tokens"]) == (3, 2)
    skipped = {step for step, outcome in steps(ended).items() if outcome == "skip"}
    assert skipped == {"node-evidence", "receipt-age"}


def test_a_stream_is_judged_whole(verify, streamed):
    ended = verify("receipt", **streamed.files)
    assert ended.code == 0, ended.output
    comments = b": padding\n\n" + streamed.response
    assert verify("receipt", **{**streamed.files, "response": comments}).code == 0
    for cut in (streamed.response[:-1], streamed.response[:-16], streamed.response[16:]):
        assert verify("receipt", **{**streamed.files, "response": cut}).code in (1, 2)


def test_a_trailing_newline_of_an_editor_is_no_change(verify, whole):
    assert verify("receipt", **{**whole.files, "response": whole.response + b"\n"}).code == 0


@pytest.mark.parametrize("form", ["attestation", "base64", "binary"])
def test_receipt_and_salts_may_be_files_of_their_own(verify, whole, form):
    text = whole.attestation["receipt"]
    salts = json.dumps(whole.attestation["salts"]).encode()
    receipt = {
        "attestation": json.dumps(whole.attestation).encode(),
        "base64": text.encode() + b"\n",
        "binary": base64.b64decode(text),
    }[form]
    assert verify("receipt", receipt=receipt, salts=salts, **whole.files).code == 0
    assert verify("receipt", receipt=receipt, **whole.files).code == 0
    # As the worker sent it, the response carries none of it: what was hashed.
    start = whole.response.index(b',"attestation":')
    bare = whole.response[:start] + b',"attestation":null}'
    ended = verify("receipt", receipt=receipt, salts=salts, **{**whole.files, "response": bare})
    assert ended.code == 0, ended.output


def test_a_nodes_document_holds_the_bundle(verify, whole):
    document = whole.world.document()
    assert verify("receipt", **{**whole.files, "bundle": document}).code == 0
    other = World(nodes=[Node("another")]).document()
    assert verify("receipt", **{**whole.files, "bundle": other}).code == 2
    assert verify("receipt", **{**whole.files, "bundle": b'{"bundles":{}}'}).code == 2


def test_the_body_as_it_was_sent_is_accepted_too(verify, whole):
    exact = canonical_body(parse_body(REQUEST))
    assert verify("receipt", **{**whole.files, "request": exact}).code == 0


def test_another_request(verify, whole):
    changed = REQUEST.replace(b"[]", b'["x"]')
    ended = verify("receipt", **{**whole.files, "request": changed})
    assert (ended.code, ended.error) == (1, "receipt-of-another-request")
    ended = verify("receipt", path="/v1/completions", **whole.files)
    assert (ended.code, ended.error) == (1, "receipt-of-another-request")
    assert verify("receipt", path="/v1/chat/completions", **whole.files).code == 0


def test_another_response(verify, whole):
    changed = whole.response.replace(b"sotto", b"forte")
    ended = verify("receipt", **{**whole.files, "response": changed})
    assert (ended.code, ended.error) == (1, "receipt-of-another-response")


def test_another_nodes_bundle(verify, whole):
    ended = verify("receipt", **{**whole.files, "bundle": Node("another").bundle})
    assert (ended.code, ended.error) == (1, "receipt-signature-bad")


@pytest.mark.parametrize("bundle", [b"", b"{}", b"\xff"])
def test_a_bundle_that_is_none(verify, whole, bundle):
    ended = verify("receipt", **{**whole.files, "bundle": bundle})
    assert (ended.code, ended.error) == (1, "bundle-malformed")


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ("key_document", "key-document-malformed"),
        ("engine_policy", "engine-policy-malformed"),
        ("another_policy", "engine-policy-digest-mismatch"),
    ],
)
def test_a_bundle_with_a_part_that_is_none(verify, whole, part, code):
    bundle = Bundle.decode(whole.bundle)
    other = {"engine_policy": bundle.engine_policy.replace(b'"cpu"', b'"cuda"')}
    changed = replace(bundle, **(other if part == "another_policy" else {part: b"x"}))
    ended = verify("receipt", **{**whole.files, "bundle": changed.encode()})
    assert (ended.code, ended.error) == (1, code)


def test_a_completion_without_usage(verify, whole):
    parsed = parse_response(b'{"usage":null,"attestation":{}}')
    assert parsed.usage == (None, None)
    assert parse_response(b'{"a":1,"attestation":{}}').usage == (None, None)
    deep = b'{"a":' + b"[" * 100_000 + b',"attestation":{}}'
    assert parse_response(deep).payloads == (deep,)
    assert verify("receipt", **{**whole.files, "response": deep}).code == 2


def test_a_signature_that_is_another(verify, whole):
    receipt = bytearray(base64.b64decode(whole.attestation["receipt"]))
    receipt[-1] ^= 1
    ended = verify("receipt", receipt=bytes(receipt), **whole.files)
    assert (ended.code, ended.error) == (1, "receipt-signature-bad")


def test_with_a_time_its_age_counts(verify, whole):
    now = verify("receipt", at="2001-01-01T00:00:00Z", **whole.files)
    assert (now.code, now.error) == (1, "receipt-date-outside-window")


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(-7 * 3600, "key-document-not-yet-valid"), (7 * 3600, "key-document-expired")],
)
def test_a_receipt_issued_outside_the_validity_of_its_keys(verify, seconds, code):
    world = World()
    document = world.nodes[0].document
    issued_at = (document.not_before + seconds) // 60 * 60
    salts = {name: bytes([index]) * 32 for index, name in enumerate(("request", "response"))}
    body = b'{"usage":{"prompt_tokens":3,"completion_tokens":2},"attestation":null}'
    response_hash = receipt_format.ResponseHash(salts["response"])
    response_hash.add(body)
    sent = canonical_body(parse_body(REQUEST))
    claims = receipt_format.Receipt(
        key_document=document.digest,
        request_hash=receipt_format.request_hash(salts["request"], b"/v1/chat/completions", sent),
        response_hash=response_hash.digest(),
        model_digest=document.model_digest,
        prompt_tokens=3,
        completion_tokens=2,
        verification=receipt_format.Verification("none", 0, bytes(32)),
        transfers=receipt_format.Transfers("none", 0, 0, 0),
        issued_at=issued_at,
    )
    signed = receipt_format.sign(claims, signing_key("node receipt"))
    written = {name: base64.b64encode(salt).decode() for name, salt in salts.items()}
    ended = verify(
        "receipt",
        receipt=signed,
        salts=json.dumps(written).encode(),
        request=REQUEST,
        response=body,
        bundle=world.nodes[0].bundle,
    )
    assert (ended.code, ended.error) == (1, code)


@pytest.mark.parametrize(
    "changed",
    [
        {"request": b"not JSON"},
        {"request": b"[]"},
        {"receipt": b"!"},
        {"receipt": b"{"},
        {"receipt": b"[]"},
        {"receipt": b'{"receipt":1}'},
        {"salts": b"1"},
        {"salts": b"{}"},
        {"salts": b'{"salts":1}'},
        {"salts": b'{"request":"AA==","response":"AA=="}'},
        {"path": "/a\ud800"},
        {"response": b'{"a":1}'},
    ],
)
def test_files_that_are_not_what_they_should_be(verify, whole, changed):
    ended = verify("receipt", **{**whole.files, **changed})
    assert (ended.code, ended.error) == (2, "unusable-arguments")


def test_a_person_reads_a_table_and_advice(verify, whole):
    held = verify("receipt", as_json=False, **whole.files)
    assert held.code == 0
    assert "receipt-signature" in held.output
    assert "held, without node-evidence, receipt-age" in " ".join(held.output.split())
    changed = {**whole.files, "response": whole.response.replace(b"sotto", b"forte")}
    failed = verify("receipt", as_json=False, **changed)
    assert failed.code == 1
    assert "receipt-of-another-response" in failed.output
    assert "advice" in failed.output
