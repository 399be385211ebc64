"""Issuer keys: what is published of them, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from issuer.errors import BlindedOutOfRange, KeyUnusable, SigningFault, UnknownKey
from issuer.keys import IssuerKey, KeyRing, create_key_file, generate, parse_period
from wire.token_life import EXCHANGE_S, KeyPeriod

NOW = 1_800_000_000
DAY = 86_400
PERIOD = KeyPeriod(NOW, NOW + 90 * DAY)


def pem(key: Any) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_the_public_key_is_the_published_one(issuer_pem: bytes, rfc9578: dict[str, Any]) -> None:
    token = bytes.fromhex(rfc9578["cases"][0]["token"])
    with IssuerKey(issuer_pem) as key:
        assert key.spki.hex() == rfc9578["pkS"]
        assert len(key.spki) == 342
        assert key.key_id == token[66:98]
        assert key.truncated_key_id == key.key_id[31]
        assert key.truncated_key_id == bytes.fromhex(rfc9578["cases"][0]["token_request"])[2]


def test_a_generated_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "issuer.pem"
    create_key_file(path, PERIOD)
    assert path.stat().st_mode & 0o777 == 0o600
    with IssuerKey.from_file(path) as key:
        assert len(key.blind_sign(bytes(255) + b"\x02")) == 256
        assert key.period == PERIOD
    with pytest.raises(FileExistsError):
        create_key_file(path, PERIOD)


def test_a_key_refuses_what_it_cannot_sign(issuer_pem: bytes) -> None:
    with IssuerKey(issuer_pem) as key:
        with pytest.raises(BlindedOutOfRange):
            key.require_in_range(b"\xff" * 256)
        with pytest.raises(BlindedOutOfRange):
            key.blind_sign(b"\xff" * 256)


@pytest.mark.parametrize("what", ["nothing", "truncated", "size", "exponent", "algorithm"])
def test_a_key_of_another_kind_is_refused(issuer_pem: bytes, what: str) -> None:
    wrong = {
        "nothing": lambda: b"",
        "truncated": lambda: issuer_pem[:-60],
        "size": lambda: pem(rsa.generate_private_key(65537, 1024)),
        "exponent": lambda: pem(rsa.generate_private_key(3, 2048)),
        "algorithm": lambda: pem(ed25519.Ed25519PrivateKey.generate()),
    }[what]()
    with pytest.raises(KeyUnusable):
        IssuerKey(wrong)


def test_a_ring_finds_keys_by_their_truncated_id_and_keeps_their_order(issuer_pem: bytes) -> None:
    first, second = IssuerKey(issuer_pem), IssuerKey(generate())
    while second.truncated_key_id == first.truncated_key_id:  # one time in 256
        second = IssuerKey(generate())
    ring = KeyRing([first, second])
    assert ring.keys == (first, second)
    assert ring.find(second.truncated_key_id, NOW) is second
    unknown = next(n for n in range(256) if n not in {key.truncated_key_id for key in ring.keys})
    with pytest.raises(UnknownKey):
        ring.find(unknown, NOW)
    ring.close()
    with pytest.raises(SigningFault):
        first.blind_sign(bytes(256))


def test_a_ring_needs_keys_that_can_be_told_apart(issuer_pem: bytes) -> None:
    with pytest.raises(KeyUnusable, match="at least one"):
        KeyRing([])
    with pytest.raises(KeyUnusable, match="same truncated"):
        KeyRing([IssuerKey(issuer_pem), IssuerKey(issuer_pem)])


def distinct(count: int, *periods: KeyPeriod) -> list[IssuerKey]:
    """Keys with these periods and distinct truncated ids."""
    keys: dict[int, IssuerKey] = {}
    while len(keys) < count:
        key = IssuerKey(generate(), periods[len(keys)])
        keys.setdefault(key.truncated_key_id, key)
    return list(keys.values())


FIRST, SECOND, THIRD = (
    KeyPeriod(NOW + start * DAY, NOW + (start + 90) * DAY) for start in (0, 45, 91)
)


def test_a_ring_follows_its_keys_through_their_lives() -> None:
    old, new, next_ = distinct(3, FIRST, SECOND, THIRD)
    ring = KeyRing([old, new, next_])

    def published(at: float) -> list[IssuerKey]:
        return list(ring.published(at))

    assert published(NOW) == [old, next_, new]  # what is to come may be known ahead
    assert published(SECOND.not_before) == [new, old, next_]
    assert published(FIRST.not_after) == [new, next_]
    assert ring.find(old.truncated_key_id, FIRST.not_after - 1) is old
    for outside in (NOW - 1, FIRST.not_after):
        with pytest.raises(UnknownKey):
            ring.find(old.truncated_key_id, outside)
    assert ring.exchangeable(old.key_id, FIRST.not_after + EXCHANGE_S - 1) is old
    assert not ring.over(FIRST.not_after + EXCHANGE_S - 1)
    with pytest.raises(UnknownKey):
        ring.exchangeable(old.key_id, FIRST.not_after + EXCHANGE_S)
    assert ring.over(FIRST.not_after + EXCHANGE_S) == (old,)
    ring.close()


def test_a_third_live_key_is_refused_even_if_only_for_a_second() -> None:
    early = KeyPeriod(FIRST.over_at - 1, FIRST.over_at + 90 * DAY)
    with pytest.raises(KeyUnusable, match="more than 2"):
        KeyRing(distinct(3, FIRST, SECOND, early))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----",
        b"Not-Before: 2027-01-15T08:00:00Z\n-----BEGIN PRIVATE KEY-----",
        b"Not-Before: 2027-01-15T08:00:00Z\nNot-After: 2027-01-15T08:00:00Z\n-----BEGIN ",
        b"Not-Before: 2027-13-15T08:00:00Z\nNot-After: 2028-01-15T08:00:00Z\n-----BEGIN ",
        b" Not-Before: 2027-01-15T08:00:00Z\nNot-After: 2028-01-15T08:00:00Z\n-----BEGIN ",
    ],
)
def test_a_key_file_without_a_period_is_refused(content: bytes) -> None:
    with pytest.raises(KeyUnusable):
        parse_period(content)


def test_a_new_key_differs_in_the_byte_that_requests_name(tmp_path: Path) -> None:
    taken = set(range(256)) - {7, 8, 9, 10, 11, 12, 13, 14} - set(range(100, 200))
    create_key_file(tmp_path / "next.pem", SECOND, unlike=taken)
    with IssuerKey.from_file(tmp_path / "next.pem") as key:
        assert key.truncated_key_id not in taken
