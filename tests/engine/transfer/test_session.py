"""Keys follow each other, and no counter is used twice under one."""

import pytest

from engine.transfer.errors import ChannelClosed, FrameRefused, SecretReused
from engine.transfer.frame import TO_DEVICE, TO_HOST
from engine.transfer.session import Session


def seal(session, number, data=b"data"):
    return session.seal(number, 0, 7, 1, data, memoryview(bytearray(len(data) + 16)))


def test_a_thousand_keys_follow_each_other():
    sender, receiver = (
        Session(bytes(32), TO_DEVICE, limit=3),
        Session(bytes(32), TO_DEVICE, limit=3),
    )
    seen = set()
    for number in range(3000):
        frame, out = seal(sender, number), bytearray(4)
        receiver.open(number, frame, out)
        assert frame.counter == number % 3 < 3
        assert out == b"data"
        seen.add(bytes(frame.body))
        sender.passed(number + 1)
        receiver.passed(number + 1)
    assert len(seen) == 3000, "a key stream was used twice"


def test_a_counter_does_not_wrap_under_its_key():
    session = Session(bytes(32), TO_DEVICE, limit=4)
    first, next_key = seal(session, 0), seal(session, 4)
    assert first.counter == next_key.counter == 0
    assert bytes(first.body) != bytes(next_key.body)
    with pytest.raises(FrameRefused):
        session.open(4, first, bytearray(4))


def test_what_is_past_cannot_be_opened_any_more():
    session = Session(bytes(32), TO_DEVICE, limit=4)
    frame = seal(session, 3)
    seal(session, 4)
    session.passed(4)
    with pytest.raises(ChannelClosed, match="erased"):
        session.open(3, frame, bytearray(4))


def test_directions_have_different_keys():
    frames = [seal(Session(bytes(32), way), 0) for way in (TO_DEVICE, TO_HOST)]
    assert bytes(frames[0].body) != bytes(frames[1].body)


def test_a_restart_needs_a_fresh_secret():
    session = Session(bytes(32), TO_DEVICE)
    before = seal(session, 0)
    session.restart(b"1" * 32)
    assert bytes(seal(session, 0).body) != bytes(before.body)
    for used in (bytes(32), b"1" * 32):
        with pytest.raises(SecretReused):
            session.restart(used)


def test_a_closed_session_seals_nothing():
    session = Session(bytes(32), TO_DEVICE)
    session.close()
    with pytest.raises(ChannelClosed):
        seal(session, 0)
