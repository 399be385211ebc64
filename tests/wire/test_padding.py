import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import padding
from wire.errors import Malformed, Unsupported

ONE_LINE = st.binary(max_size=2000).filter(lambda data: b"\n" not in data and b"\r" not in data)


@given(ONE_LINE)
def test_an_event_has_a_multiple_of_the_size_and_one_payload(payload):
    event = padding.pad_event(payload)
    assert len(event) % padding.EVENT_SIZE == 0
    comment, rest = event.split(b"\n", 1)
    assert comment.startswith(b":")
    assert rest == b"data: " + payload + b"\n\n"


@pytest.mark.parametrize(("length", "size"), [(0, 512), (502, 512), (503, 1024), (1014, 1024)])
def test_an_event_takes_the_smallest_size_that_holds_it(length, size):
    assert len(padding.pad_event(bytes(length))) == size


@given(ONE_LINE)
def test_the_pieces_of_an_event_all_have_one_size(payload):
    pieces = padding.event_pieces(payload)
    assert {len(piece) for piece in pieces} == {padding.EVENT_SIZE}
    assert b"".join(pieces) == padding.pad_event(payload)


@given(st.binary(max_size=20_000).map(lambda data: data.replace(b"\n", b"").replace(b"\r", b"")))
def test_an_event_of_a_class_has_the_length_of_one(payload):
    event = padding.pad_event_to_class(payload)
    assert len(event) in padding.RESPONSE_CLASSES
    assert event.endswith(b"\ndata: " + payload + b"\n\n")
    assert all(line.startswith(b":") for line in event.split(b"\n")[:-3])


def test_a_padding_event_is_a_comment_of_the_same_size():
    assert len(padding.PADDING_EVENT) == padding.EVENT_SIZE
    comment, blank, end = padding.PADDING_EVENT.split(b"\n")
    assert comment.startswith(b":")
    assert blank == end == b""


@pytest.mark.parametrize("payload", [b"a\nb", b"a\rb", b"\n"])
def test_a_payload_of_two_lines_is_refused(payload):
    with pytest.raises(Malformed, match="one line"):
        padding.pad_event(payload)


def test_classes_are_powers_of_two_from_4_kib_to_16_mib():
    for classes in (padding.REQUEST_CLASSES, padding.RESPONSE_CLASSES):
        assert classes[0] == 4096
        assert classes[-1] == 16 * 1024 * 1024
        assert all(2 * a == b for a, b in itertools.pairwise(classes))


@pytest.mark.parametrize(
    ("length", "padded"), [(0, 4096), (4096, 4096), (4097, 8192), (2**24, 2**24)]
)
def test_a_length_is_padded_to_its_class(length, padded):
    assert padding.padded_length(length, padding.REQUEST_CLASSES) == padded


def test_what_no_class_holds_is_refused():
    with pytest.raises(Unsupported, match="largest"):
        padding.padded_length(2**24 + 1, padding.REQUEST_CLASSES)
