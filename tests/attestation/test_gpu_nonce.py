import hashlib

import pytest

from attestation.gpu_nonce import LABEL, gpu_nonce
from attestation.report_data import NO_NONCE

DIGEST = b"\x11" * 32


def test_the_nonce_is_the_hash_of_label_index_digest_and_nonce():
    expected = hashlib.sha256(b"sottovoce gpu nonce v1\x00\x00\x01\x02" + DIGEST + b"\x22" * 32)
    assert gpu_nonce(DIGEST, 258, b"\x22" * 32) == expected.digest()


def test_worked_bytes():
    assert gpu_nonce(bytes(32), 0).hex() == WORKED
    assert hashlib.sha256(LABEL + bytes(4 + 32 + 32)).hexdigest() == WORKED


def test_every_input_changes_the_nonce():
    nonces = {
        gpu_nonce(DIGEST, 0),
        gpu_nonce(DIGEST, 1),
        gpu_nonce(b"\x12" * 32, 0),
        gpu_nonce(DIGEST, 0, b"\x01" * 32),
    }
    assert len(nonces) == 4
    assert gpu_nonce(DIGEST, 0) == gpu_nonce(DIGEST, 0, NO_NONCE)


@pytest.mark.parametrize(
    ("digest", "index", "nonce"),
    [
        (b"\x11" * 31, 0, NO_NONCE),
        (DIGEST, 0, b""),
        (DIGEST, -1, NO_NONCE),
        (DIGEST, 1 << 32, NO_NONCE),
    ],
)
def test_other_lengths_and_indexes_are_refused(digest, index, nonce):
    with pytest.raises(ValueError, match=r"32 bytes|u32"):
        gpu_nonce(digest, index, nonce)


WORKED = "f19a11415af0eeb7a9788eb6aa5c21bbe515e200faffd55e972be4599fe87f05"
