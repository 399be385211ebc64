"""Report data is the documented formula, and nothing can be left out of it."""

import hashlib

import pytest

from attestation.report_data import report_data

DIGEST = bytes(range(32))
NONCE = b"\x6e" * 32


def test_the_documented_formula():
    gpus = hashlib.sha256(b"onetwo").digest()
    statement = hashlib.sha256(b"sottovoce report v1" + DIGEST + gpus).digest()
    assert report_data(DIGEST, (b"one", b"two"), NONCE) == statement + NONCE


def test_without_gpus_and_nonce():
    nothing = hashlib.sha256(b"").digest()
    statement = hashlib.sha256(b"sottovoce report v1" + DIGEST + nothing).digest()
    assert report_data(DIGEST) == statement + bytes(32)


def test_the_known_answer():
    assert report_data(DIGEST, (b"one", b"two"), NONCE).hex() == (
        "19d13eb799392379946d527959c8adba63e6d2505cdfd837ab9cdb46942477d1"
        "6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e"
    )


def test_every_part_is_bound():
    seen = {
        report_data(DIGEST),
        report_data(DIGEST, (b"one",)),
        report_data(DIGEST, (b"two",)),
        report_data(DIGEST, (b"two", b"one")),
        report_data(DIGEST, nonce=NONCE),
        report_data(DIGEST[::-1]),
    }
    assert len(seen) == 6
    assert all(len(data) == 64 for data in seen)


def test_digest_and_nonce_are_32_bytes():
    for digest, nonce in (
        (b"", NONCE),
        (DIGEST + b"\x00", NONCE),
        (DIGEST, b""),
        (DIGEST, DIGEST * 2),
    ):
        with pytest.raises(ValueError, match="32 bytes"):
            report_data(digest, nonce=nonce)
