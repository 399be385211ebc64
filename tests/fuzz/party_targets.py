"""The decoders of the parties: client, server, relay and issuer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from client import sse, token_file
from client.canonical import canonical_body, parse_body
from client.errors import RequestRefused, TrustFileError
from client.trust import parse_trust
from issuer.errors import KeyUnusable, MalformedRequest
from issuer.keys import parse_period
from issuer.spent import parse_exchange, parse_refunds, parse_retire, parse_spend
from relay.cache import _lifetime
from relay.errors import WrongMediaType
from relay.forward import forwarded_headers
from relay.nodes import _nodes_of
from relay.stock import split_collection
from server import keeper_messages, messages
from server.engine_ready import EngineReadyLine
from server.errors import ProtocolError, StartError
from server.issuer_keys import IssuerUnavailable, parse_directory
from server.keeper import CapsuleState, Keyring, answer
from server.messages import Marking, Spending
from server.openai import validation
from server.openai.errors import ApiError
from server.openai.json_text import decode_object
from server.openai.schemas import ChatRequest, CompletionRequest
from server.upstream_dialect import DIALECTS, UpstreamFailed, parse_event
from tests.fuzz.evidence_targets import POLICY
from tests.fuzz.log_targets import LOG, WITNESSES
from tests.fuzz.target import Target, pieces_of
from tests.fuzz.wire_targets import CONFIGS, DATE, encapsulated_requests, issuer_keys
from wire.auth_params import encode_base64url
from wire.hpke import ENC_LENGTH
from wire.key_config import encode_list
from wire.padding import pad_event
from wire.privacy_pass import Token

# Client.

CHAT = {
    "model": "tinychat",
    "messages": [{"role": "user", "content": "Hello"}],
    "temperature": 0.5,
    "stream": True,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "user": "me",
}
COMPLETION = {"model": "tinychat", "prompt": ["Hello"], "max_tokens": 3, "stop": ["x"]}


def bodies() -> list[bytes]:
    return [json.dumps(CHAT).encode(), json.dumps(COMPLETION).encode()]


def read_body(data: bytes) -> bytes:
    canonical = canonical_body(parse_body(data))
    assert canonical_body(parse_body(canonical)) == canonical
    return canonical


def read_events(data: bytes) -> list[bytes]:
    whole = list(sse.EventParser().feed(data))
    for size in (1, 5):
        parser = sse.EventParser()
        assert [p for piece in pieces_of(data, size) for p in parser.feed(piece)] == whole
    return whole


def wallet_files() -> list[bytes]:
    token = Token(bytes(32), bytes(32), bytes(32), bytes(256))
    entry = token_file.StoredToken(token, 1_700_000_000).entry
    return [b"[]", f"[{entry}]".encode(), f"[{entry},{entry}]".encode()]


def trust_files() -> Iterator[bytes]:
    lines = [
        "[log]",
        f'origin = "{LOG.name}"',
        f'key = "{LOG.verifier_key}"',
        "quorum = 2",
        "list_epoch_s = 600",
        *(f'[[log.witnesses]]\nkey = "{witness.verifier_key}"' for witness in WITNESSES),
        "[roles]",
        *(f'{role} = "{role.encode().hex():0>64}"' for role in ("release", "issuer", "list")),
        "[platforms]",
        f'simulated = ["{"cd" * 32}"]',
        "[issuer]",
        'name = "issuer.example"',
    ]
    yield "\n".join(lines).encode()


def read_trust(data: bytes) -> Any:
    return parse_trust(data.decode("utf-8", "replace"))


# Server.

DIGEST = b"\x07" * 32
ENCS = tuple(bytes(length) for length in ENC_LENGTH.values())
FRAMES = (
    messages.Request(True, next(encapsulated_requests())),
    messages.Mark(ENCS[0], DATE),
    messages.Mark(ENCS[1], DATE),
    messages.Marked(Marking.REPLAYED),
    messages.Admit(),
    messages.Admitted(messages.Admission.BUSY),
    messages.Spend(bytes(16), DIGEST, (DIGEST, bytes(32))),
    messages.Spent(Spending.SPENT),
    messages.Start(chunked=True),
    messages.Chunk(b"sealed"),
    messages.End(),
    messages.Reject(422),
    messages.Refund(7, (b"\x01" * 256,)),
    messages.Refund(7, ()),
    messages.Refunded((bytes(256), b"\x02" * 256)),
    messages.Quote(bytes(32)),
    messages.Quoted(messages.Quoting.OK, b"bundle"),
    messages.Quoted(messages.Quoting.BUSY),
)


def frames() -> list[bytes]:
    return [messages.encode(frame)[messages.LENGTH.size :] for frame in FRAMES]


PACKETS = (
    keeper_messages.ContextRequest(True, bytes(7), ENCS[0]),
    keeper_messages.Statement(DIGEST, DIGEST, 1, 2, 3, DIGEST, 4, 5, 6),
    keeper_messages.NewGeneration(9, 1, 2),
    keeper_messages.HandshakeRequest(DIGEST, DIGEST),
    keeper_messages.PublicKeys(bytes(32), bytes(1216), bytes(32)),
    keeper_messages.Binding(0, DIGEST, DIGEST, "none", "none"),
    keeper_messages.LeafRequest(0, DIGEST, DATE),
    keeper_messages.CheckRequest(True, False, b"\0" + b"\x64\x7a\0\1\0\1", ENCS[1], bytes(40)),
)


def decode_packet(data: bytes) -> Any:
    """Every packet by its own decoder; the first byte says which."""
    kinds = {packet.encode()[0]: type(packet) for packet in PACKETS}
    if not data or data[0] not in kinds:
        return keeper_messages.decode_generation(data)
    return kinds[data[0]].decode(data)


def read_event(data: bytes) -> None:
    """An event of another engine, in every dialect."""
    for dialect in DIALECTS.values():
        delta = parse_event(dialect, data)
        assert delta is None or dialect.returns_ids or not delta.ids


def upstream_events() -> list[bytes]:
    logprobs = {"token_logprobs": [-0.5], "top_logprobs": [{"token_id:7": -0.5}]}
    choice = {"index": 0, "text": " a", "token_ids": [7], "logprobs": logprobs}
    events = [choice, choice | {"finish_reason": "stop"}, {"text": "", "finish_reason": "length"}]
    return [b"[DONE]", *(json.dumps({"choices": [event]}).encode() for event in events)]


def packets() -> list[bytes]:
    return [packet.encode() for packet in PACKETS]


def keyring() -> Keyring:
    ring = Keyring(bytes, lambda: DATE)  # all its randomness is zeros
    for packet in (
        keeper_messages.NewGeneration(0, 1, 2).encode(),
        keeper_messages.Binding(0, DIGEST, DIGEST, "none", "none").encode(),
        keeper_messages.encode_generation(keeper_messages.Packet.OPEN, 0),
    ):
        ring.control(packet)
    return ring


RING = keyring()


def ask_keeper(data: bytes) -> bytes:
    """Whatever a capsule sends, the keeper answers it or closes that capsule's connection."""
    if not data:
        raise ProtocolError("an empty packet is the end of the connection")
    return answer(RING, CapsuleState(), data)


def asked_of_the_keeper() -> Iterator[bytes]:
    for encapsulated in encapsulated_requests():
        header, enc = encapsulated[:7], encapsulated[7 : 7 + ENC_LENGTH[CONFIGS[0].kem]]
        if header[1:3] == CONFIGS[0].kem.to_bytes(2, "big"):
            yield keeper_messages.ContextRequest(False, b"\x01" + header[1:], enc).encode()


def directories() -> Iterator[bytes]:
    keys = [{"token-type": 2, "token-key": encode_base64url(key).decode()} for key in issuer_keys()]
    others = [{"token-type": 1, "token-key": "AA=="}]
    yield json.dumps({"issuer-request-uri": "/", "token-keys": others + keys[:2]}).encode()


def ready_lines() -> Iterator[bytes]:
    members = {"model_digest": DIGEST.hex(), "max_model_len": 512, "vocab_size": 1000}
    yield json.dumps(members | {"policy": POLICY.decode(), "max_sequences": 8}).encode()


def validate(data: bytes) -> None:
    body = decode_object(data)
    refused = []
    for model in (ChatRequest, CompletionRequest):
        try:
            validation.parse(model, body)
        except ApiError as error:
            refused.append(error)
    if len(refused) == 2:
        raise refused[0]


# Relay and issuer.


def read_health(data: bytes) -> frozenset[str] | None:
    nodes = _nodes_of(data)
    if nodes is None:
        raise ValueError
    return nodes


def read_collection(data: bytes) -> dict[int, bytes]:
    configs = split_collection(data)
    if not configs:
        raise ValueError
    return configs


def read_fields(data: bytes) -> None:
    """Header fields that a client, or the log, may have sent the relay: name, value, by lines."""
    fields = [
        (name.lower(), value)
        for name, _, value in (line.partition(b": ") for line in data.split(b"\r\n"))
    ]
    values = {name: value.decode("latin-1") for name, value in fields}
    assert 0 <= _lifetime(values.get(b"cache-control", ""), values.get(b"age", "")) <= 60
    assert forwarded_headers(fields).keys() <= {"content-type", "incremental"}


def spend_orders() -> Iterator[bytes]:
    order = {"spend_id": bytes(16).hex(), "key_id": DIGEST.hex(), "rows": [DIGEST.hex()] * 2}
    yield json.dumps(order).encode()


def exchange_orders() -> Iterator[bytes]:
    order = {"spend_id": bytes(16), "key_id": DIGEST, "row": DIGEST, "binding": bytes(32)}
    yield json.dumps({name: value.hex() for name, value in order.items()}).encode()


def refund_orders() -> Iterator[bytes]:
    item = {"ticket": DIGEST.hex(), "binding": bytes(32).hex()}
    for count in (1, 3):
        yield json.dumps({"refunds": [item] * count}).encode()


def key_files() -> Iterator[bytes]:
    yield b"Not-Before: 2026-11-01T00:00:00Z\nNot-After: 2026-12-01T00:00:00Z\n-----BEGIN "


TARGETS = (
    Target("events", read_events, (), lambda: [pad_event(b"{}") + pad_event(b"[DONE]")], ()),
    Target("body", read_body, (RequestRefused,), bodies, ("client.canonical:parse_body",)),
    Target(
        "wallet",
        token_file.decode,
        (ValueError,),
        wallet_files,
        ("client.token_file:decode",),
    ),
    Target("trust", read_trust, (TrustFileError,), trust_files, ("client.trust:parse_trust",)),
    Target(
        "frame",
        messages.decode,
        (ProtocolError,),
        frames,
        (
            "server.messages:decode",
            *(f"server.messages:{type(frame).__name__}.parse" for frame in FRAMES),
        ),
        lambda frame: messages.encode(frame)[messages.LENGTH.size :],
    ),
    Target(
        "keeper-packet",
        decode_packet,
        (ProtocolError,),
        packets,
        (
            "server.keeper_messages:decode_generation",
            *(f"server.keeper_messages:{type(packet).__name__}.decode" for packet in PACKETS),
        ),
    ),
    Target("keeper", ask_keeper, (ProtocolError,), asked_of_the_keeper, ()),
    Target(
        "issuer-directory",
        parse_directory,
        (IssuerUnavailable,),
        directories,
        ("server.issuer_keys:parse_directory",),
    ),
    Target(
        "upstream-event",
        read_event,
        (UpstreamFailed,),
        upstream_events,
        ("server.upstream_dialect:parse_event",),
    ),
    Target(
        "engine-ready",
        EngineReadyLine.parse,
        (StartError,),
        ready_lines,
        ("server.engine_ready:EngineReadyLine.parse",),
    ),
    Target(
        "openai-request",
        validate,
        (ApiError,),
        bodies,
        ("server.openai.json_text:decode_object", "server.openai.validation:parse"),
    ),
    Target(
        "health",
        read_health,
        (ValueError,),
        lambda: [json.dumps({"status": "ok", "nodes": ["ab" * 32]}).encode()],
        (),
    ),
    Target(
        "key-collection",
        read_collection,
        (ValueError,),
        lambda: [encode_list(CONFIGS)],
        ("relay.stock:split_collection",),
        lambda configs: b"".join(configs.values()),
    ),
    Target(
        "relay-fields",
        read_fields,
        (WrongMediaType,),
        lambda: [
            b"content-type: message/ohttp-chunked-req\r\nincremental: ?1",
            b"content-type: message/ohttp-req; x\r\ncache-control: max-age=10\r\nage: 3",
        ],
        (),
    ),
    Target("spend", parse_spend, (MalformedRequest,), spend_orders, ("issuer.spent:parse_spend",)),
    Target(
        "exchange",
        parse_exchange,
        (MalformedRequest,),
        exchange_orders,
        ("issuer.spent:parse_exchange",),
    ),
    Target(
        "refunds",
        parse_refunds,
        (MalformedRequest,),
        refund_orders,
        ("issuer.spent:parse_refunds",),
    ),
    Target("period", parse_period, (KeyUnusable,), key_files, ("issuer.keys:parse_period",)),
    Target(
        "retire",
        parse_retire,
        (MalformedRequest,),
        lambda: [json.dumps({"key_id": DIGEST.hex()}).encode()],
        ("issuer.spent:parse_retire",),
    ),
)
