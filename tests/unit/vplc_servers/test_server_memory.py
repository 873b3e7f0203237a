"""Packing what clients want into few requests, and scan time as UTC."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vplc.scan.watch import BYTES, RANGES
from vplc.servers.host import ScanClock
from vplc.servers.memory import portions

SPANS = st.lists(st.tuples(st.integers(0, 100_000), st.integers(1, 9000)), max_size=300)


@given(SPANS)
def test_requests_hold_what_the_host_answers_and_cover_everything(spans: list[tuple[int, int]]) -> None:
    asked = portions(spans)
    for ranges in asked:
        assert 1 <= len(ranges) <= RANGES
        assert sum(size for _, size in ranges) <= BYTES
    covered = {byte for ranges in asked for at, size in ranges for byte in range(at, at + size)}
    for at, size in spans:
        assert {at, at + size // 2, at + size - 1} <= covered


@given(SPANS)
def test_what_fits_one_request_comes_in_one(spans: list[tuple[int, int]]) -> None:
    asked = portions(spans)
    for at, size in spans:
        if size <= BYTES:
            assert any(b <= at and at + size <= b + length for ranges in asked for b, length in ranges)


def test_neighbours_are_fetched_together() -> None:
    dense = [(n * 4, 4) for n in range(10_000)]
    assert len(portions(dense)) == -(-40_000 // BYTES)


def test_scattered_values_need_a_range_each() -> None:
    scattered = [(n * 1000, 4) for n in range(130)]
    assert [len(r) for r in portions(scattered)] == [64, 64, 2]


def test_scan_time_becomes_utc_with_the_smallest_lateness() -> None:
    clock = ScanClock()
    late = [5_000_000, 300_000, 4_000_000, 900_000]
    stamps = [clock.utc_ns(n * 10_000_000, 1_000_000_000 + n * 10_000_000 + d) for n, d in enumerate(late)]
    errors = [s - 1_000_000_000 - n * 10_000_000 for n, s in enumerate(stamps)]
    assert errors[0] == 5_000_000
    assert errors[1] == 300_000
    assert all(300_000 <= e < 400_000 for e in errors[1:])


def test_a_clock_that_was_set_and_a_host_that_began_anew_are_followed() -> None:
    clock = ScanClock()
    clock.utc_ns(0, 1_000_000_000_000)
    assert clock.utc_ns(10_000_000, 5_000_000_000_000) == 5_000_000_000_000
    assert clock.utc_ns(0, 5_000_090_000_000) == 5_000_090_000_000
