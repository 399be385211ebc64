"""Text from released ids: characters whole, stop strings never shown, tokens aligned."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from server.openai.text_stream import TextStream, unfinished


def read(
    tokens: list[bytes], *stops: str, until: str | None = None
) -> tuple[list[str], TextStream]:
    stream = TextStream(tokens.__getitem__, stops, until)
    pieces = [stream.feed(i) for i in range(len(tokens))]
    pieces.append(stream.flush())
    return [piece.text for piece in pieces if piece is not None], stream


def test_plain_tokens_are_shown_at_once():
    assert read([b"one", b" two"])[0] == ["one", " two"]


def test_an_emoji_split_over_tokens_is_shown_whole():
    assert read([b"a", b"\xf0", b"\x9f\x98", b"\x80", b"b"])[0] == ["a", "😀", "b"]


def test_a_token_border_inside_a_character_is_never_cut():
    pieces, _ = read([b"a\xc3", b"\xa9b\xe2\x82", b"\xac"])
    assert pieces == ["aéb€"]


def test_an_unfinished_character_is_shown_as_a_replacement_at_the_end():
    assert read([b"a", b"\xf0\x9f"])[0] == ["a", "\ufffd"]


def test_bytes_that_are_no_utf8_do_not_hold_the_text_up():
    assert read([b"\xff", b"a", b"\xe2", b"b", b"\x80\x80\x80\x80"])[0] == [
        "\ufffd",
        "a",
        "\ufffdb",
        "\ufffd" * 4,
    ]


def test_a_stop_string_across_tokens_is_not_shown():
    pieces, stream = read([b"one", b" ST", b"O", b"P two"], "STOP")
    assert pieces == ["one", " "]
    assert stream.stopped
    assert stream.fed == 4


def test_what_only_began_like_a_stop_string_is_shown():
    pieces, stream = read([b"S", b"T", b"O", b"R", b"E"], "STOP")
    assert "".join(pieces) == "STORE"
    assert not stream.stopped


def test_a_held_beginning_is_shown_when_the_answer_ends():
    assert read([b"x", b"ST"], "STOP")[0] == ["x", "ST"]


def test_the_first_of_several_stop_strings_ends_the_text():
    assert read([b"abcdef"], "e", "cd")[0] == ["ab"]


def test_a_stop_string_at_the_very_beginning_leaves_nothing():
    pieces, stream = read([b"STOP now"], "STOP")
    assert pieces == []
    assert stream.stopped


def test_ids_after_the_stop_are_not_counted():
    stream = TextStream([b"a", b"X", b"b"].__getitem__, ("X",))
    for token_id in (0, 1, 2, 2):
        stream.feed(token_id)
    assert stream.fed == 2


def test_stop_strings_hold_only_before_the_limit():
    assert "".join(read([b"a", b"<ca", b"ll>", b" X"], "X", until="<call>")[0]) == "a<call> X"
    assert "".join(read([b"aX", b"<call>"], "X", until="<call>")[0]) == "a"


def test_overlapping_stop_across_many_tokens():
    pieces, _ = read([b"a", b"a", b"a", b"b", b"c"], "aab")
    assert "".join(pieces) == "a"


def test_tokens_are_those_the_text_lies_in():
    tokens = [b"ab", b"", b"cS", b"TOP"]
    stream = TextStream(tokens.__getitem__, ("STOP",))
    pieces = [piece for i in range(4) if (piece := stream.feed(i))]
    assert [[t.position for t in piece.tokens] for piece in pieces] == [[0], [2]]
    assert [piece.text for piece in pieces] == ["ab", "c"]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(borders)]


@given(st.text(), st.lists(st.integers(0, 200)))
def test_any_text_in_any_tokens_comes_out_unchanged(text, cuts):
    tokens = split(text.encode(), cuts)
    pieces, _ = read(tokens)
    assert "".join(pieces) == text


@given(
    st.text("abé", max_size=30),
    st.lists(st.text("abé", min_size=1, max_size=4), min_size=1, max_size=4),
    st.lists(st.integers(0, 60)),
)
def test_any_stop_strings_cut_where_the_first_begins(text, stops, cuts):
    data = text.encode()
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    pieces, stream = read(split(data, cuts), *stops)
    shown = "".join(pieces)
    # Tokens come one by one, so a stop string that is complete earlier wins over one that begins
    # earlier and is complete later: what is shown never holds a stop string in either case.
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    assert stream.stopped == bool(found)
    if len(stops) == 1 and found:
        assert shown == text[: found[0]]


@given(st.binary(max_size=12), st.lists(st.integers(0, 12)))
def test_any_bytes_decode_as_they_would_whole(data, cuts):
    assert "".join(read(split(data, cuts))[0]) == data.decode(errors="replace")


@given(st.text(min_size=1), st.integers(0, 3))
def test_unfinished_counts_the_cut_of_the_last_character(text, cut):
    last = text[-1].encode()
    cut = min(cut, len(last) - 1)
    data = text.encode()
    assert unfinished(data[: len(data) - cut]) == (len(last) - cut if cut else 0)
