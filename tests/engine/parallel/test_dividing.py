"""What is told to the ranks, and who gets which layers and rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.attention import Span
from engine.parallel.orders import decode_blocks, encode_blocks
from engine.parallel.pipeline import stages
from engine.parallel.sequence import shares


@given(st.lists(st.integers(0, 5000), max_size=40))
def test_blocks_arrive_in_their_order(blocks):
    words = iter([*encode_blocks(blocks), 77])
    assert decode_blocks(words) == blocks
    assert next(words) == 77


@given(st.integers(1, 200), st.integers(1, 16))
def test_every_layer_has_one_rank_and_the_first_has_most(layers, ranks):
    divided = stages(layers, ranks)
    assert [layer for stage in divided for layer in stage] == list(range(layers))
    assert max(map(len, divided)) == len(divided[0]) <= min(map(len, divided)) + 1


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 60)), min_size=1, max_size=5),
    st.integers(1, 5),
)
def test_shares_cover_every_row_once(spans, ranks):
    spans = [Span([number], start, length) for number, (start, length) in enumerate(spans)]
    rows = sum(span.length for span in spans)
    wanted = range(0, rows, 3)
    positions, found = [], []
    for share in shares(rows, ranks):
        positions += [
            (span.blocks[0], at)
            for span in share.spans(spans)
            for at in range(span.start, span.context)
        ]
        found += [row + share.first for row in share.wanted(wanted)]
    assert positions == [
        (span.blocks[0], at) for span in spans for at in range(span.start, span.context)
    ]
    assert found == list(wanted)


@pytest.mark.parametrize("rows", [4 * ranks for ranks in range(2, 9)])
def test_no_rank_of_a_divided_chunk_is_without_rows(rows):
    assert min(share.length for share in shares(rows, rows // 4)) == 4
