"""Blocks of samples: what goes in comes out, and foreign bytes are refused."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import block
from manifests.errors import DocumentError

ROW = st.tuples(
    st.integers(0, 2**32 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=True),
    st.integers(0, 255),
    st.none() | st.text(max_size=5),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=30))
def test_a_block_holds_every_sample_sorted_by_tag_and_time(rows: list[tuple[int, int, float, int, str | None]]) -> None:
    columns = block.decode(block.encode(*(list(column) for column in zip(*rows, strict=True))))
    expected = sorted(rows, key=lambda row: (row[0], row[1]))
    assert list(columns.tag) == [row[0] for row in expected]
    assert list(columns.ts) == [row[1] for row in expected]
    assert list(columns.q) == [row[3] for row in expected]
    for got, (_, _, value, _, _) in zip(columns.v, expected, strict=True):
        assert got == value or (math.isnan(got) and math.isnan(value))
    assert (columns.s or [None] * len(rows)) == [row[4] for row in expected]


def test_unequal_and_empty_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="equal"):
        block.encode([1], [], [1.0], [192])
    with pytest.raises(ValueError, match="empty"):
        block.encode([], [], [], [])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_are_a_document_error_never_a_crash(data: st.DataObject) -> None:
    good = bytearray(block.encode([1, 2, 3], [1, 2, 3], [1.0, 2.0, 3.0], [192, 192, 0]))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        block.decode(bytes(good[: data.draw(st.integers(0, len(good)))]))
    except DocumentError:
        pass


def test_a_decompression_bomb_is_refused() -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(block.MAX_UNPACKED_BYTES + 1))
    with pytest.raises(DocumentError, match="larger"):
        block.decode(bomb)
