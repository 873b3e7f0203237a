"""OPC UA values as samples: quality, time, type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.block import Quality, is_good
from manifests.messages import TagType
from workloads.opcua.translate import quality, reading, tag_type, time_ns


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0x00000000, Quality.GOOD),
        (0x00960000, Quality.GOOD_LOCAL_OVERRIDE),
        (0x00000480, Quality.GOOD),  # information bits: a value was lost in the queue
        (0x40900000, Quality.UNCERTAIN_LAST_USABLE),
        (0x40940000, Quality.UNCERTAIN_RANGE),
        (0x40000000, Quality.UNCERTAIN),
        (0x80310000, Quality.BAD_COMMUNICATION),
        (0x80320000, Quality.BAD_WAITING),
        (0x80340000, Quality.BAD_CONFIGURATION),
        (0x808A0000, Quality.BAD_NOT_CONNECTED),
        (0x808C0000, Quality.BAD_SENSOR_FAILURE),
        (0x808D0000, Quality.BAD_OUT_OF_SERVICE),
        (0x80000000, Quality.BAD),
    ],
)
def test_status_codes_become_quality_bytes(status: int, expected: Quality) -> None:
    assert quality(status) == expected


@given(st.integers(0, 2**32 - 1))
def test_the_severity_is_never_improved(status: int) -> None:
    byte = quality(status)
    assert 0 <= byte <= 255
    severity = status >> 30
    assert is_good(byte) == (severity == 0)
    assert (byte < Quality.UNCERTAIN) == (severity >= 2)


def test_time_stamps_are_exact_nanoseconds_in_utc() -> None:
    stamp = datetime(2026, 11, 22, 16, 55, 0, 123_457, tzinfo=UTC)
    assert time_ns(stamp) == 1_795_366_500_123_457_000
    assert time_ns(stamp.replace(tzinfo=None)) == time_ns(stamp)
    assert time_ns(stamp.astimezone(timezone(timedelta(hours=5)))) == time_ns(stamp)
    assert time_ns(None) == 0
    assert time_ns(datetime(1601, 1, 1, tzinfo=UTC)) == 0, "a clock that was never set"


def test_values_become_a_number_or_a_text() -> None:
    assert reading(True) == (1.0, None)
    assert reading(7) == (7.0, None)
    assert reading("idle")[1] == "idle"  # type: ignore[index]
    assert reading(SimpleNamespace(Text="läuft", Locale="de"))[1] == "läuft"  # type: ignore[index]
    assert reading(datetime(2026, 1, 2, tzinfo=UTC))[1] == "2026-01-02T00:00:00+00:00"  # type: ignore[index]
    assert reading([1, 2]) is None
    assert reading(b"\0") is None
    assert reading(None) is None


def test_data_types_become_tag_types_and_structures_none() -> None:
    assert tag_type(1, enumeration=False) is TagType.BOOL
    assert {tag_type(number, enumeration=False) for number in range(2, 10)} == {TagType.INT}
    assert tag_type(11, enumeration=False) is TagType.FLOAT
    assert tag_type(12, enumeration=False) is TagType.STRING
    assert tag_type(-1, enumeration=True) is TagType.INT
    assert tag_type(15, enumeration=False) is None  # ByteString
    assert tag_type(-1, enumeration=False) is None
