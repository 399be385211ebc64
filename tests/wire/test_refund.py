"""The refund's structures have one encoding; tickets tell nothing and are told apart."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import Malformed, WireError
from wire.privacy_pass import TokenRequest
from wire.refund import (
    ITEM_LENGTH,
    MAX_BATCH,
    BlindedMessages,
    RefundItem,
    decode_batch,
    decode_batch_response,
    decode_signatures,
    encode_batch,
    encode_signatures,
    ticket_hash,
    tickets,
)

MESSAGES = tuple(bytes([index]) * 256 for index in range(1, 9))


@pytest.mark.parametrize("count", range(1, 9))
def test_messages_and_signatures_round_trip(count):
    blinded = BlindedMessages(7, MESSAGES[:count])
    assert BlindedMessages.decode(blinded.encode()) == blinded
    assert [request.encode()[:3] for request in blinded.requests()] == [b"\0\2\7"] * count
    assert decode_signatures(encode_signatures(MESSAGES[:count]), count) == MESSAGES[:count]
    for other in {0, count - 1, count + 1}:
        with pytest.raises(Malformed):
            decode_signatures(encode_signatures(MESSAGES[:count]), other)


def test_a_message_given_twice_is_refused():
    with pytest.raises(Malformed):
        BlindedMessages.decode(BlindedMessages(7, MESSAGES[:1] * 2).encode())


@given(st.integers(0, 1400))
def test_a_truncated_field_is_refused(length):
    value = BlindedMessages(7, MESSAGES[:4]).encode()
    if length < len(value):
        with pytest.raises(WireError):
            BlindedMessages.decode(value[:length])


@given(st.binary(max_size=600))
def test_any_bytes_are_a_field_or_an_error_of_ours(value):
    try:
        assert BlindedMessages.decode(value).encode() == value
    except WireError:
        return


ITEMS = tuple(
    RefundItem(bytes([index]) * 32, TokenRequest(index, MESSAGES[0])) for index in range(MAX_BATCH)
)


def test_a_batch_round_trips_up_to_its_limit():
    assert decode_batch(encode_batch(ITEMS)) == ITEMS
    assert decode_batch_response(bytes(256 * 3), 3) == (bytes(256),) * 3
    for wrong in (b"", encode_batch(ITEMS)[:-1], encode_batch((*ITEMS, ITEMS[0]))):
        with pytest.raises(Malformed):
            decode_batch(wrong)
    for wrong in (b"", bytes(256), bytes(256 * 2 - 1)):
        with pytest.raises(Malformed):
            decode_batch_response(wrong, 2)


@given(st.integers(0, ITEM_LENGTH - 1), st.integers(0, 7))
def test_a_changed_batch_is_another_batch_or_refused(position, bit):
    data = bytearray(encode_batch(ITEMS[:1]))
    data[position] ^= 1 << bit
    try:
        assert decode_batch(bytes(data)) != ITEMS[:1]
    except WireError:
        return


def test_a_ticket_depends_on_all_that_was_spent_together_and_on_its_row():
    spend_id, key_id, rows = b"i" * 16, b"k" * 32, (b"a" * 32, b"b" * 32)
    first, second = tickets(spend_id, key_id, rows)
    assert tickets(spend_id, key_id, rows[::-1]) == (second, first)
    others = (
        *tickets(b"j" * 16, key_id, rows),
        *tickets(spend_id, b"l" * 32, rows),
        *tickets(spend_id, key_id, rows[:1]),
    )
    assert len({first, second, *others}) == 2 + len(others)
    whole = hashlib.sha256(b"sottovoce refund v1" + spend_id + key_id + rows[0] + rows[1]).digest()
    assert first == hashlib.sha256(whole + rows[0]).digest()
    assert ticket_hash(first) == hashlib.sha256(first).digest()


def test_nothing_of_a_refund_shows_in_a_repr():
    shown = repr(ITEMS[1]) + repr(BlindedMessages(7, MESSAGES[:1]))
    assert repr(MESSAGES[0])[2:12] not in shown
