"""The status block: buckets, quantiles, and a block that is not ready."""

from __future__ import annotations

import itertools

import pytest

from vplc.scan import status, values
from vplc.scan.errors import NotRunning


def histogram(*ns: int) -> status.Histogram:
    counts = [0] * status.BUCKETS
    for v in ns:
        counts[
            next(b for b in range(status.BUCKETS) if status.bucket_range(b)[0] <= v < status.bucket_range(b)[1])
        ] += 1
    return status.Histogram(tuple(counts), max(ns, default=0))


def test_buckets_touch_and_are_narrow() -> None:
    ranges = [status.bucket_range(b) for b in range(status.BUCKETS)]
    assert ranges[0][0] == 0
    for (_, end), (start, stop) in itertools.pairwise(ranges):
        assert end == start
        assert stop - start <= max(1, start / 32)
    assert ranges[-1][1] > 10**10


def test_quantiles_name_the_bucket_of_the_sample() -> None:
    found = histogram(*([1000] * 98), 50_000, 2_000_000)
    assert found.quantile_ns(0.5) == pytest.approx(1000, rel=0.032)
    assert found.quantile_ns(0.99) == pytest.approx(50_000, rel=0.032)
    assert found.quantile_ns(1.0) == 2_000_000


def test_an_empty_histogram_has_no_quantiles() -> None:
    assert histogram().quantile_ns(0.5) is None


def test_a_difference_of_histograms_is_what_came_since() -> None:
    assert (histogram(5, 6, 900) - histogram(5)).total == 2


def test_a_block_that_is_not_ready_is_not_read() -> None:
    with pytest.raises(NotRunning):
        status.parse(bytes(100_000), 0, alive=True)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("BOOL", True), ("INT", -5), ("UINT", 65535), ("REAL", 1.5), ("LREAL", -2.25), ("TIME", 10**12), ("BYTE", 255)],
)
def test_values_read_back_as_written(kind: str, value: object) -> None:
    assert values.decode(kind, values.encode(kind, value)) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [("BOOL", 2), ("INT", 40_000), ("INT", 1.5), ("USINT", -1), ("REAL", "1"), ("REAL", 1e300), ("STRING", 1)],
)
def test_values_that_do_not_fit_are_refused(kind: str, value: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        values.encode(kind, value)


def test_texts_and_arrays_are_decoded() -> None:
    assert values.decode("STRING[5]", b"ab\0xyz") == "ab"
    assert values.decode("WSTRING[2]", "é\0".encode("utf-16-le")) == "é"
    assert values.decode("ARRAY[1..2,0..1] OF INT", bytes([1, 0, 2, 0, 3, 0, 255, 255])) == [1, 2, 3, -1]
