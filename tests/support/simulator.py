"""A log, an issuer, a relay and a node in memory, speaking the real formats. Each can be made to
lie.

`World` is honest until a test changes it: `spoil_document`, `spoil_response`, `capacity`, and the
hooks of `Gateway`. Its HTTP face is one ASGI application with the relay's and the issuer's paths.
"""

import base64
import hashlib
import json
import secrets
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from attestation.attester.base import make_bundle
from attestation.attester.simulated import SimulatedAttester
from client.trust import Trust, parse_trust
from issuer.keys import IssuerKey, generate
from transparency.checkpoint import Checkpoint
from transparency.leaf import (
    IssuerKeyLeaf,
    ListedNode,
    ModelLeaf,
    NodeLeaf,
    NodeListLeaf,
    PolicyLeaf,
    ReleaseLeaf,
    sign_leaf,
)
from transparency.merkle import Tree
from transparency.nodes_document import ConsistencyProof, NodesDocument, ProvenLeaf
from transparency.note import KeyType, Note, Signer, cosign, sign
from transparency.statements import statements_digest
from transparency.tiles import Tile, tile_bytes
from wire import bhttp, canonical_json, hpke, inner, ohttp, padding, privacy_pass, receipt
from wire.key_config import KeyConfig
from wire.key_document import KeyDocument
from wire.merkle import leaf_hash
from wire.refund import REFUSED, SIGNATURES_FIELD, encode_signatures

ORIGIN = "log.test.invalid/world.simulated"
ISSUER_NAME = "issuer.test.invalid"
ACCOUNT_KEY = "account-key-of-the-tests"
MODEL = "tiny"
EPOCH_S = 600
ALGORITHMS = ((hpke.Kdf.HKDF_SHA256, hpke.Aead.AES_128_GCM),)
MEASUREMENT = hashlib.sha256(b"release under test").digest()
MODEL_DIGEST = hashlib.sha256(b"model under test").digest()
POLICY = canonical_json.encode(
    {
        "version": 1,
        "verification": "none",
        "transfers": "none",
        "prefix_cache": "request",
        "device": "cpu",
        "optimisations": {},
    }
)


def seed(name):
    return hashlib.sha256(name.encode()).digest()


def signing_key(name):
    return Ed25519PrivateKey.from_private_bytes(seed(name))


def public(name):
    return signing_key(name).public_key().public_bytes_raw()


@dataclass
class Opened:
    """One request as the node saw it, and what it will answer with."""

    raw: bytes
    """The inner Binary HTTP message, without its padding."""
    request: inner.InnerRequest
    suite: hpke.Suite
    enc: bytes
    context: hpke.RecipientContext


class Node:
    """A simulated node: its keys, its evidence, and a gateway that answers as a test says."""

    def __init__(self, name="node", *, capacity=1, model=MODEL, attester=None, now=None):
        now = int(time.time()) if now is None else now
        self.name = name
        self.kems = {
            hpke.Kem.XWING: hpke.PrivateKey.generate(hpke.Kem.XWING, seed(f"{name} xwing")),
            hpke.Kem.X25519: hpke.PrivateKey.generate(hpke.Kem.X25519, seed(f"{name} x25519")),
        }
        self.document = KeyDocument(
            key_configs=tuple(
                KeyConfig(index, kem, key.public_bytes, ALGORITHMS)
                for index, (kem, key) in enumerate(self.kems.items(), start=1)
            ),
            receipt_key=public(f"{name} receipt"),
            tls_key=None,
            model=model,
            model_digest=MODEL_DIGEST,
            policy_digest=hashlib.sha256(POLICY).digest(),
            device="cpu",
            gpu_count=0,
            capacity=capacity,
            not_before=now - 60,
            not_after=now - 60 + 6 * 3600,
        )
        self.attester = attester or SimulatedAttester(seed("platform"), MEASUREMENT, lambda: now)
        self.bundle = make_bundle(
            self.attester, key_document=self.document, engine_policy=POLICY
        ).encode()
        self.seen = []
        self.answers = []
        """Functions `(node, opened) -> iterator of bytes`, used one a request; then `complete`."""

    @property
    def id(self):
        return self.document.node

    def leaf(self):
        body = NodeLeaf(
            self.document.digest, hashlib.sha256(self.bundle).digest(), self.document.not_after
        )
        return sign_leaf(body, signing_key(f"{self.name} receipt"))

    def row(self):
        return ListedNode(self.document.digest, self.document.model, self.document.capacity)

    def open(self, body):
        header, enc, rest = ohttp.split(body)
        info = ohttp.request_info(header, chunked=True)
        context = hpke.setup_recipient(header.suite, self.kems[header.kem], enc, info)
        raw = ohttp.open_chunked_request(context, rest)
        request = bhttp.decode_request(raw)
        opened = Opened(
            bhttp.encode_request(request), inner.parse_request(request), header.suite, enc, context
        )
        self.seen.append(opened)
        return opened

    def gateway(self, body):
        opened = self.open(body)
        answer = self.answers.pop(0) if self.answers else complete()
        return answer(self, opened)

    def sign(self, opened, response_hash, **changed):
        salt = opened.context.export(ohttp.REQUEST_SALT_LABEL, ohttp.SALT_LENGTH)
        claims = {
            "key_document": self.document.digest,
            "request_hash": receipt.request_hash(salt, opened.request.path, opened.request.body),
            "response_hash": response_hash,
            "model_digest": MODEL_DIGEST,
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "verification": receipt.Verification("none", 0, bytes(32)),
            "transfers": receipt.Transfers("none", 0, 0, 0),
            "issued_at": int(time.time()) // 60 * 60,
            **changed,
        }
        return receipt.sign(receipt.Receipt(**claims), signing_key(f"{self.name} receipt"))


class Sealed:
    """Seals one chunked response as a worker does."""

    def __init__(self, opened, status=200, headers=()):
        suite = opened.suite
        nonce = secrets.token_bytes(ohttp.response_nonce_length(suite))
        self._sealer = ohttp.ChunkedResponseSealer(opened.context, opened.enc, nonce)
        self._encoder = bhttp.ResponseEncoder()
        self._status, self._headers = status, headers

    def head(self):
        return self._sealer.start() + self._sealer.chunk(
            self._encoder.head(self._status, self._headers)
        )

    def content(self, data):
        return self._sealer.chunk(self._encoder.content(data))

    def final(self, trailers=()):
        return self._sealer.final(self._encoder.end(trailers))


USAGE = b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}'
HEAD = b'{"id":"chatcmpl-1","created":1,"model":"tiny","object":'
EVENTS = (
    HEAD + b'"chat.completion.chunk","choices":[{"index":0,"delta":'
    b'{"role":"assistant","content":"so"},"finish_reason":null}]}',
    HEAD + b'"chat.completion.chunk","choices":[{"index":0,"delta":'
    b'{"content":"tto"},"finish_reason":"stop"}],' + USAGE + b',"attestation":null}',
)
BODY = (
    HEAD + b'"chat.completion","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"sotto"},"finish_reason":"stop"}],'
    + USAGE
    + b',"attestation":null}'
)


def complete(*, change=lambda claims: claims, cut=None, attest=True):
    """Answer like an honest worker; `change` alters the receipt's claims, `cut` ends after n parts.

    `change` gets a dictionary of claim overrides to add to.
    """

    def answer(node, opened):
        streamed = json.loads(opened.request.body).get("stream", False)
        parts = stream(node, opened, change) if streamed else body(node, opened, change, attest)
        for index, part in enumerate(parts):
            if cut is not None and index >= cut:
                raise Cut
            yield part

    return answer


class Cut(Exception):
    """The node dies here."""


def stream(node, opened, change, trailers=(), events=(*EVENTS, b"[DONE]")):
    sealed = Sealed(opened, headers=((b"content-type", b"text/event-stream"),))
    yield sealed.head()
    salt = opened.context.export(ohttp.RESPONSE_SALT_LABEL, ohttp.SALT_LENGTH)
    digest = receipt.ResponseHash(salt)
    for payload in events:
        digest.add(payload)
    *before, last = [payload for payload in events if payload != b"[DONE]"]
    for payload in before:
        yield sealed.content(padding.pad_event(payload))
    signed = node.sign(opened, **{"response_hash": digest.digest(), **change({})})
    yield sealed.content(padding.pad_event(attested(last, signed)))
    if b"[DONE]" in events:
        yield sealed.content(padding.pad_event(b"[DONE]"))
    yield sealed.final(trailers)


def body(node, opened, change, attest, trailers=()):
    sealed = Sealed(opened, headers=((b"content-type", b"application/json"),))
    yield sealed.head()
    salt = opened.context.export(ohttp.RESPONSE_SALT_LABEL, ohttp.SALT_LENGTH)
    digest = receipt.ResponseHash(salt)
    digest.add(BODY)
    signed = node.sign(opened, **{"response_hash": digest.digest(), **change({})})
    yield sealed.content(attested(BODY, signed) if attest else BODY)
    yield sealed.final(trailers)


def unverified_later(*, change=lambda claims: claims):
    """Stream, and end by a failure receipt behind what had held."""

    def answer(node, opened):
        return stream(node, opened, change, events=(*EVENTS[:-1], UNVERIFIED))

    return answer


def unverified(*, change=lambda claims: claims, attest=True):
    """Answer like a worker whose accelerator's work did not verify: with a failure receipt."""

    def answer(node, opened):
        sealed = Sealed(opened, 503, ((b"content-type", b"application/json"),))
        yield sealed.head()
        digest = receipt.ResponseHash(
            opened.context.export(ohttp.RESPONSE_SALT_LABEL, ohttp.SALT_LENGTH)
        )
        digest.add(UNVERIFIED)
        claims = {"response_hash": digest.digest(), "completion_tokens": 0, **change({})}
        body = attested(UNVERIFIED, node.sign(opened, **claims))
        yield sealed.content(body if attest else UNVERIFIED)
        yield sealed.final()

    return answer


UNVERIFIED = (
    b'{"error":{"message":"not verified","type":"server_error","param":null,'
    b'"code":"verification_failed"},"attestation":null}'
)


def attested(payload, signed):
    member = json.dumps({"receipt": base64.b64encode(signed).decode()}).encode()
    return receipt.with_attestation(payload, member)


def unlogged_key():
    """A key that no leaf vouches for; no modulus is above its own, so it signs all.

    Its primes are the two largest below 2^1024.
    """
    p, q, e = 2**1024 - 105, 2**1024 - 179, 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    exponents = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, *exponents, rsa.RSAPublicNumbers(e, p * q))
    return IssuerKey(
        numbers.private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


def refund(sign, count):
    """Answer a streamed or whole request and give back `count` tokens, signed by `sign`."""

    def answer(node, opened):
        blinded = opened.request.blinded.messages
        signatures = [sign(message) for message in blinded[:count]]
        signatures += [REFUSED] * (len(blinded) - count)
        trailers = ((SIGNATURES_FIELD, encode_signatures(signatures)),)
        streamed = json.loads(opened.request.body).get("stream", False)
        parts = stream if streamed else body
        arguments = (lambda claims: claims,) if streamed else (lambda claims: claims, True)
        yield from parts(node, opened, *arguments, trailers=trailers)

    return answer


def refuse(status, code, headers=(), sign=None):
    """Answer with an authenticated OpenAI error; with `sign` every token is given back."""

    def answer(_, opened):
        error = {"message": "refused", "type": "server_error", "param": None, "code": code}
        sealed = Sealed(opened, status, (*headers, (b"content-type", b"application/json")))
        yield sealed.head()
        yield sealed.content(json.dumps({"error": error}).encode())
        messages = opened.request.blinded.messages if sign else ()
        signatures = encode_signatures([sign(message) for message in messages])
        yield sealed.final(((SIGNATURES_FIELD, signatures),) if sign else ())

    return answer


def quote_afresh(lie=lambda nonce: nonce, *, of=None, attester=None):
    """Answer `GET /v1/attestation` as a worker does; `lie` changes the nonce that is quoted.

    `of` is another node whose document is quoted, `attester` another platform that quotes.
    """

    def answer(node, opened):
        nonce = bytes.fromhex(opened.request.query.removeprefix(b"nonce=").decode())
        bundle = make_bundle(
            attester or node.attester,
            key_document=(of or node).document,
            engine_policy=POLICY,
            nonce=lie(nonce),
        )
        sealed = Sealed(opened, headers=((b"content-type", b"application/cmw+json"),))
        yield sealed.head()
        yield sealed.content(bundle.encode())
        yield sealed.final()

    return answer


@dataclass
class World:
    """All parties but the client."""

    nodes: list = field(default_factory=lambda: [Node()])
    quorum: int = 2
    spoil_document: object = None
    """A function over the nodes document, or None. An HTTP status from it is answered instead."""
    spoil_response: object = None
    """A function over each part of an encapsulated response; None from it cuts the stream."""
    relay_status: int = 200
    origin: str = ORIGIN
    clock: object = time.time

    def __post_init__(self):
        self.tree = Tree()
        self.leaves = []
        self.sizes = []
        self.tiles_read = []
        self._listed = {}
        self.issuer_key = IssuerKey(generate())
        self.exchanged = []
        """What was posted to be exchanged: the header fields and the body."""
        self.exchange_status = 200
        self.log = Signer.from_seed(self.origin, KeyType.ED25519, seed("log"))
        self.witnesses = [
            Signer.from_seed(f"w{i}.test.invalid", KeyType.COSIGNATURE, seed(f"w{i}"))
            for i in range(3)
        ]
        self.published = [
            self.add(ReleaseLeaf("1", {"simulated": MEASUREMENT}), "release"),
            self.add(ModelLeaf(MODEL, MODEL_DIGEST), "release"),
            self.add(PolicyLeaf(hashlib.sha256(POLICY).digest(), POLICY), "release"),
            self.add(self.issuer_leaf(), "issuer"),
        ]

    def rotate(self):
        """Publish a newer issuer key, half a minute old; the issuer signs with it from now on."""
        self.issuer_key = IssuerKey(generate())
        now = int(time.time())
        self.published.append(self.add(self.issuer_leaf(now - 30, now + 90 * 86_400), "issuer"))
        self._listed.clear()  # lists commit to their statements: only a next one shows the key

    def issuer_leaf(self, not_before=None, not_after=None):
        challenge = privacy_pass.TokenChallenge(ISSUER_NAME, b"", inner.AUTHORITY.decode())
        now = int(time.time())
        return IssuerKeyLeaf(
            ISSUER_NAME,
            self.issuer_key.spki,
            challenge.encode(),
            not_before or now - 60,
            not_after or now + 86_000,
        )

    def trust_text(self):
        witnesses = "".join(
            f'[[log.witnesses]]\nkey = "{w.verifier_key}"\n' for w in self.witnesses
        )
        root = hashlib.sha256(public("platform")).hexdigest()
        roles = "".join(f'{r} = "{public(r).hex()}"\n' for r in ("release", "issuer", "list"))
        return (
            f'[log]\norigin = "{self.origin}"\nkey = "{self.log.verifier_key}"\n'
            f"quorum = {self.quorum}\nlist_epoch_s = {EPOCH_S}\n{witnesses}[roles]\n{roles}"
            f'[platforms]\nsimulated = ["{root}"]\n[issuer]\nname = "{ISSUER_NAME}"\n'
        )

    def trust(self) -> Trust:
        return parse_trust(self.trust_text())

    def add(self, body, role):
        return self.add_leaf(sign_leaf(body, signing_key(role)))

    def add_leaf(self, leaf):
        data = leaf.encode()
        if data not in self.leaves:
            self.leaves.append(data)
            self.tree.append(leaf_hash(data))
        return self.leaves.index(data)

    def statements(self):
        """What a node list says of the statements beside it."""
        return statements_digest(leaf_hash(self.leaves[index]) for index in self.published)

    def proven(self, index):
        proof = self.tree.inclusion_proof(index, len(self.leaves))
        return ProvenLeaf(index, self.leaves[index], proof)

    def document(self, at=None, *, cosigners=3, cosigned_at=None):
        """The nodes document of the epoch of `at`; one list leaf an epoch, as the real log."""
        at = int(self.clock()) if at is None else at
        epoch = at // EPOCH_S
        node_leaves = [self.add_leaf(node.leaf()) for node in self.nodes]
        if epoch not in self._listed:
            rows = tuple(sorted(node.row() for node in self.nodes))
            start = epoch * EPOCH_S
            body = NodeListLeaf(epoch, start, start + EPOCH_S, rows, self.statements())
            self._listed[epoch] = self.add(body, "list")
        size = len(self.leaves)
        document = NodesDocument(
            checkpoint=self.note(size, cosigners, at if cosigned_at is None else cosigned_at),
            node_list=self.proven(self._listed[epoch]),
            leaves=tuple(self.proven(i) for i in sorted([*self.published, *node_leaves])),
            bundles={node.id: node.bundle for node in self.nodes},
            consistency=tuple(
                ConsistencyProof(old, self.tree.consistency_proof(old, size))
                for old in sorted(set(self.sizes))
                if old < size
            ),
        )
        self.sizes.append(size)
        return document.encode()

    def note(self, size, cosigners, at):
        text = Checkpoint(self.origin, size, self.tree.root(size)).encode()
        lines = [sign(text, self.log)]
        lines += [cosign(text, witness, at) for witness in self.witnesses[:cosigners]]
        return Note(text, tuple(lines)).encode()

    def app(self):
        """The relay's and the issuer's paths as one ASGI application."""
        return Starlette(
            routes=[
                Route("/nodes", self._nodes),
                Route("/tile/{path:path}", self._tile),
                Route("/token-request", self._token_request, methods=["POST"]),
                Route("/token-exchange", self._token_exchange, methods=["POST"]),
                Route("/{node}", self._relay, methods=["POST"]),
            ]
        )

    async def _nodes(self, _):
        document = self.document()
        if self.spoil_document is not None:
            document = self.spoil_document(document)
        if isinstance(document, int):
            return Response(status_code=document)
        return Response(document, media_type="application/json")

    async def _tile(self, request):
        tile = Tile.parse(f"tile/{request.path_params['path']}")
        self.tiles_read.append(tile.path)
        if not tile.exists_at(len(self.leaves)):
            return Response(status_code=404)
        return Response(tile_bytes(self.tree, tile))

    async def _token_request(self, request):
        if request.headers.get("authorization") != f"Bearer {ACCOUNT_KEY}":
            return Response(status_code=401)
        blinded = privacy_pass.TokenRequest.decode(await request.body()).blinded
        return Response(
            self.issuer_key.blind_sign(blinded), media_type=privacy_pass.TOKEN_RESPONSE_TYPE
        )

    async def _token_exchange(self, request):
        body = await request.body()
        self.exchanged.append((dict(request.headers), body))
        if self.exchange_status != 200:
            return Response(status_code=self.exchange_status)
        blinded = privacy_pass.TokenRequest.decode(body[privacy_pass.TOKEN_LENGTH :]).blinded
        return Response(
            self.issuer_key.blind_sign(blinded), media_type=privacy_pass.TOKEN_RESPONSE_TYPE
        )

    async def _relay(self, request):
        if self.relay_status != 200:
            return Response(status_code=self.relay_status)
        node = next(n for n in self.nodes if n.id == request.path_params["node"])
        parts = node.gateway(await request.body())

        async def forward():
            for part in parts:
                spoiled = part if self.spoil_response is None else self.spoil_response(part)
                if spoiled is None:
                    raise Cut
                yield spoiled

        return StreamingResponse(forward(), media_type=ohttp.CHUNKED_RESPONSE_TYPE)


def state_folder():
    return Path(tempfile.mkdtemp(prefix="sottovoce-test-"))
