"""`bench wire`: what a request, its tokens and its checks cost by themselves, part by part."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from issuer.keys import IssuerKey, generate
from server.capsule import open_request
from server.connections import KeeperConnection
from server.messages import Request
from sottovoce.bench import appraisal, logged, redemption, refusing, relaying
from sottovoce.bench.keeper import RunningKeeper, running_keeper
from sottovoce.bench.line import Line, line
from wire import bhttp, inner, ohttp, padding
from wire.hpke import Aead, ContextSecrets, Kdf, Kem, RecipientContext, Suite
from wire.privacy_pass import Token

_BODY = b'{"messages":[{"content":"%s","role":"user"}],"model":"m"}'
_MICROSECONDS = 1e6
_MILLISECONDS = 1e3


@dataclass(frozen=True)
class WireSizes:
    """How much is measured."""

    opens: int = 300
    chunks: int = 20_000
    signatures: int = 1_000
    redemptions: int = 400
    relay_requests: int = 1_000
    relay_streams: int = 256
    appraisals: int = 100
    log_batches: int = 40
    log_proofs: int = 200
    refusals: int = 20_000


QUICK = WireSizes(
    opens=5,
    chunks=50,
    signatures=5,
    redemptions=8,
    relay_requests=8,
    relay_streams=4,
    appraisals=3,
    log_batches=2,
    log_proofs=3,
    refusals=64,
)


def measure(sizes: WireSizes) -> Iterator[Line]:
    """Yield the lines of `bench wire` as they are measured."""
    with running_keeper() as gateway:
        for name, kem in (("x25519", Kem.X25519), ("xwing", Kem.XWING)):
            opens = [_open_one(gateway, kem) * _MILLISECONDS for _ in range(sizes.opens)]
            yield line(f"gateway open {name} @ 1 KiB request, AES-128-GCM", "ms", opens)
        yield line("chunk @ 200 B event, AES-128-GCM", "us", list(_chunks(sizes.chunks)))
        yield line("blind signatures @ RSA-2048, one core", "/s", _signatures(sizes.signatures))
        yield from refusing.measure(gateway, sizes.refusals)
    yield from appraisal.measure(sizes.appraisals)
    yield from redemption.measure(sizes.redemptions)
    yield from relaying.measure(sizes.relay_requests, sizes.relay_streams)
    yield from logged.measure(sizes.log_batches, sizes.log_proofs)


def _open_one(gateway: RunningKeeper, kem: Kem) -> float:
    """Return the seconds from an encapsulated request to the inner one, in a new capsule."""
    encapsulated_request, _ = ohttp.encapsulate_chunked(
        gateway.configs[kem], _inner_request(), aead=Aead.AES_128_GCM
    )
    with gateway.new_capsule() as sock:
        connection = KeeperConnection(sock)
        started = time.perf_counter()
        opened = open_request(Request(True, encapsulated_request), connection)
        inner.parse_request(bhttp.decode_request(opened.request))
        return time.perf_counter() - started


def _inner_request() -> bytes:
    """A request of 1 KiB with one token, padded to its class as every client does."""
    body = _BODY % (b"x" * (1024 - len(_BODY) + 2))
    token = Token(bytes(32), bytes(32), bytes(32), bytes(256))
    request = inner.build_request(
        method=b"POST", path=b"/v1/chat/completions", body=body, date=0, tokens=[token]
    )
    length = padding.padded_length(len(bhttp.encode_request(request)), padding.REQUEST_CLASSES)
    return bhttp.encode_request(request, padded_length=length)


def _chunks(count: int) -> Iterator[float]:
    """Yield the microseconds that a capsule takes to pad, encode and seal one event."""
    context = RecipientContext(
        ContextSecrets(
            Suite(Kem.XWING, Kdf.HKDF_SHA256, Aead.AES_128_GCM), b"k" * 16, b"n" * 12, b"e" * 32
        )
    )
    sealer = ohttp.ChunkedResponseSealer(context, bytes(1120), os.urandom(16))
    encoder = bhttp.ResponseEncoder()
    encoder.head(200, ())
    payload = b'{"id":"chatcmpl-0","text":"'.ljust(198, b"x") + b'"}'
    yield from _timed(lambda: sealer.chunk(encoder.content(padding.pad_event(payload))), count)


def _timed(work: Callable[[], object], count: int, batch: int = 50) -> Iterator[float]:
    """Yield microseconds of one `work`, each the mean of a batch."""
    for _ in range(max(1, count // batch)):
        started = time.perf_counter()
        for _ in range(batch):
            work()
        yield (time.perf_counter() - started) / batch * _MICROSECONDS


def _signatures(count: int) -> list[float]:
    """Return rates of blind signing in one thread, one rate a tenth of `count`."""
    rates = []
    with IssuerKey(generate()) as key:
        message = b"\x01".ljust(255, b"\x5a").rjust(256, b"\0")
        for _ in range(10):
            started = time.perf_counter()
            for _ in range(max(1, count // 10)):
                key.blind_sign(message)
            rates.append(max(1, count // 10) / (time.perf_counter() - started))
    return rates
