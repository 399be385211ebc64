"""The key stream against RFC 8439, and what is drawn from it."""

import numpy as np
import torch

from engine.verification.secrets import BOUND, Secrets, chacha20

KEY = bytes(range(32))


def test_a_block_is_the_rfcs():
    """RFC 8439, section 2.3.2."""
    block = chacha20(KEY, bytes.fromhex("000000090000004a00000000"), 1, 64)
    assert block.hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


def test_a_key_stream_is_the_rfcs():
    """RFC 8439, section 2.4.2: the sunscreen text, whose second block is not whole."""
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for "
        b"the future, sunscreen would be it."
    )
    stream = chacha20(KEY, bytes.fromhex("000000000000004a00000000"), 1, len(text))
    sealed = bytes(a ^ b for a, b in zip(text, stream, strict=True))
    assert sealed.hex() == (
        "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b"
        "f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8"
        "07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736"
        "5af90bbf74a35be6b40b8eedf2785e42874d"
    )


def test_a_long_stream_is_its_pieces_in_a_row():
    whole = chacha20(KEY, bytes(12), 0, 64 * 5000 + 7)
    assert whole[64 * 4095 :] == chacha20(KEY, bytes(12), 4095, 64 * 905 + 7)


def test_integers_are_uniform_and_reach_both_bounds():
    drawn = Secrets(bytes).integers(b"label", 255 * 2000)
    counts = torch.bincount(drawn.int() + BOUND, minlength=255)
    assert drawn.dtype == torch.int8
    assert len(counts) == 255
    chi_square = ((counts - 2000.0).square() / 2000.0).sum().item()
    assert 150 < chi_square < 375  # 254 degrees of freedom: 5 sigma either way


def test_numbers_follow_from_key_and_label_alone():
    keys = iter([b"a" * 32, b"b" * 32])
    secrets = Secrets(lambda _: next(keys))
    first = secrets.integers(b"one", 100)
    assert torch.equal(first, secrets.integers(b"one", 100))
    assert not torch.equal(first, secrets.integers(b"two", 100))
    secrets.rekey()
    assert not torch.equal(first, secrets.integers(b"one", 100))


def test_a_subset_has_different_members_and_every_member_its_chance():
    secrets = Secrets(bytes)
    hits = np.zeros(20)
    for draw in range(2000):
        rows = secrets.subset(b"%d" % draw, 20, 5)
        assert rows == sorted(set(rows))
        hits[rows] += 1
    assert abs(hits - 500).max() < 5 * np.sqrt(500 * 0.75)
    assert secrets.subset(b"all", 3, 8) == [0, 1, 2]


def test_wide_integers_reach_both_bounds_and_no_further():
    drawn = Secrets(bytes).wide(b"label", 20_000, 50)
    assert (int(drawn.min()), int(drawn.max())) == (-50, 50)
    assert abs(drawn.double().mean().item()) < 5 * 50 / (3 * 20_000) ** 0.5
