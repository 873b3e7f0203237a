"""Downsampling keeps first, last, extremes, worst quality and gaps."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import block
from orchestrator.history import Samples, collect, downsample, numbers, rows
from orchestrator.store.history import StoredBlock

S = 10**9


def made(values: list[float], quality: list[int] | None = None, step: int = S) -> Samples:
    ts = np.arange(len(values), dtype=np.int64) * step
    return Samples(ts, np.array(values, float), np.array(quality or [192] * len(values), np.uint8))


def test_few_samples_are_given_raw() -> None:
    series = downsample(made([1, 2, 3]), 0, 10 * S, 3)
    assert not series.downsampled
    assert series.value.tolist() == [1, 2, 3]


def test_a_spike_survives_any_bucket() -> None:
    values = [0.0] * 1000
    values[333] = 99
    values[666] = -99
    series = downsample(made(values), 0, 1000 * S - 1, 10)
    assert (np.nanmax(series.high), np.nanmin(series.low)) == (99, -99)
    assert (series.ts[0], series.ts[-1]) == (0, 999 * S)


def test_bad_samples_give_no_value_but_show_their_quality() -> None:
    quality = [192] * 100
    quality[50:60] = [0] * 10
    series = downsample(made([1.0] * 100, quality), 0, 100 * S - 1, 10)
    assert numbers(series.value)[5] is None
    assert series.quality.tolist()[5] == 0
    assert numbers(series.value)[4] == 1.0


def test_a_hole_in_time_is_one_empty_point() -> None:
    samples = made([1.0] * 100)
    samples.ts[50:] += 500 * S
    series = downsample(samples, 0, 600 * S, 60)
    middle = [i for i, v in enumerate(numbers(series.value)) if v is None]
    assert len(middle) == 1
    assert 49 * S < series.ts[middle[0]] < 550 * S
    assert (np.diff(series.ts) > 0).all()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.floats(-1e6, 1e6), st.sampled_from([0, 64, 192])), min_size=1),
    st.integers(1, 40),
)
def test_extremes_and_count_never_depend_on_the_number_of_points(
    rows_: list[tuple[int, float, int]], points: int
) -> None:
    rows_.sort(key=lambda r: r[0])
    samples = Samples(
        np.array([r[0] for r in rows_], np.int64),
        np.array([r[1] for r in rows_]),
        np.array([r[2] for r in rows_], np.uint8),
    )
    series = downsample(samples, 0, 10_000, points)
    good = [r[1] for r in rows_ if r[2] >= 192]
    assert series.samples == len(rows_)
    assert [v for v in numbers(series.high) if v is not None] == [] or np.nanmax(series.high) == max(good)
    assert (np.isfinite(series.low).any()) == bool(good)
    if good:
        assert np.nanmin(series.low) == min(good)
    columns = {len(series.ts), len(series.value), len(series.low), len(series.high), len(series.quality)}
    assert len(columns) == 1
    assert int(series.quality.min()) == 0 or int(series.quality.min()) == min(r[2] for r in rows_)


def test_blocks_are_cut_to_the_range_and_put_in_order() -> None:
    late = block.encode([7, 7, 8], [20, 30, 25], [2.0, 3.0, 0.0], [192] * 3)
    early = block.encode([3, 3], [10, 20], [1.0, 1.5], [192] * 2)
    found = collect([StoredBlock(late, {7: 1}), StoredBlock(early, {3: 1})], 10, 25)
    assert found[1].ts.tolist() == [10, 20, 20]
    assert found[1].value.tolist() == [1.0, 2.0, 1.5]
    assert list(found) == [1]


def test_csv_has_every_sample_and_no_formula() -> None:
    samples = Samples(np.array([1], np.int64), np.array([np.nan]), np.array([192], np.uint8), ["=1+1"])
    lines = "".join(rows(samples)).splitlines()
    assert lines == ["time,value,quality,text", "1970-01-01T00:00:00.000000001Z,,192,'=1+1"]
