"""Report by exception, live documents, blocks, deadbands, back-off: the small decisions of the kit."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.block import Quality, decode
from manifests.messages import Tag, TagType
from workloads.kit.backoff import Backoff, BackoffConfig
from workloads.kit.batcher import Batcher, BlockConfig
from workloads.kit.deadband import Deadband, mistakes, width
from workloads.kit.live import Live, LiveConfig, document, timestamp
from workloads.kit.mqtt import Will, connect_packet, length_bytes, publish_packet
from workloads.kit.samples import NAN, Reading, TagSpec, TagTable

SECOND = 1_000_000_000


class Told:
    def __init__(self) -> None:
        self.samples: list[tuple[int, int, float, int, str | None]] = []

    def add(self, tag: int, ts_ns: int, value: float, quality: int, text: str | None = None) -> None:
        self.samples.append((tag, ts_ns, value, quality, text))

    def extend(self, tags: object, ts_ns: int, values: object, qualities: object) -> None:
        raise AssertionError("not used here")


def table(deadband: float = 0.0, max_silence_s: int = 60, kind: TagType = TagType.FLOAT) -> tuple[TagTable, Told]:
    told = Told()
    made = TagTable(told, lambda tag: None)
    made.add(TagSpec(Tag(id=0, topic="a/b/c/d/e/t", type=kind, unit="bar"), deadband, max_silence_s * SECOND))
    return made, told


def test_a_value_is_told_when_it_leaves_the_deadband_of_what_was_told_last() -> None:
    made, told = table(deadband=1.0)
    for second, value in enumerate((10.0, 10.9, 11.0, 11.1, 10.2, 10.0), start=1):
        made.offer(0, second * SECOND, value, Quality.GOOD)
    assert [value for _, _, value, _, _ in told.samples] == [10.0, 11.1, 10.0]


def test_a_change_of_quality_is_always_told_and_counted() -> None:
    made, told = table(deadband=100.0)
    for second, quality in enumerate((192, 192, 64, 192, 24, 24, 4, 192), start=1):
        made.offer(0, second * SECOND, 5.0, quality)
    assert [quality for _, _, _, quality, _ in told.samples] == [192, 64, 192, 24, 4, 192]
    assert made.good_tags == 1


@given(st.lists(st.integers(1, 90), max_size=30), st.floats(0, 5))
def test_nothing_is_silent_longer_than_promised_while_readings_come(steps: list[int], deadband: float) -> None:
    made, told = table(deadband=deadband, max_silence_s=60)
    now, readings = 0, []
    for step in steps:
        now += step * SECOND
        readings.append(now)
        made.offer(0, now, 1.0, Quality.GOOD)
    times = [ts for _, ts, *_ in told.samples]
    for earlier, later in pairwise(times):
        # Only a reading could have been told: none lay between the end of the silence and what was told.
        assert not [at for at in readings if earlier + 60 * SECOND <= at < later]


def test_bad_samples_carry_no_number_and_keep_the_last_one_for_eyes() -> None:
    made, told = table()
    made.offer(0, SECOND, 3.5, Quality.GOOD)
    made.fail((0,), 2 * SECOND, Quality.BAD_COMMUNICATION)
    assert made.fail((0,), 3 * SECOND, Quality.BAD_COMMUNICATION) == 0
    _, _, value, quality, _ = told.samples[-1]
    assert math.isnan(value)
    assert quality == 24
    assert made.readings[0].value == 3.5


def test_a_failure_is_never_dated_before_the_value_it_ends() -> None:
    made, told = table()
    made.offer(0, 10 * SECOND, 3.5, Quality.GOOD)
    made.fail((0,), 4 * SECOND, Quality.BAD_COMMUNICATION)
    assert told.samples[-1][1] == 10 * SECOND + 1


def test_a_silent_tag_is_repeated_with_the_value_it_still_has() -> None:
    made, told = table(max_silence_s=5)
    assert made.repeat_silent((0,), SECOND) == 0, "nothing was ever told"
    made.offer(0, SECOND, 2.0, Quality.GOOD)
    assert made.repeat_silent((0,), 5 * SECOND) == 0
    assert made.repeat_silent((0,), 6 * SECOND) == 1
    assert told.samples[-1] == (0, 6 * SECOND, 2.0, 192, None)


def test_text_is_told_when_it_changes_and_cut_when_it_is_long() -> None:
    made, told = table(kind=TagType.STRING)
    made.offer(0, SECOND, NAN, Quality.GOOD, "idle")
    made.offer(0, 2 * SECOND, NAN, Quality.GOOD, "idle")
    made.offer(0, 3 * SECOND, NAN, Quality.GOOD, "x" * 5000)
    assert [len(text or "") for *_, text in told.samples] == [4, 1024]


# ---------------------------------------------------------------- live documents


@pytest.mark.parametrize(
    ("kind", "reading", "value", "word"),
    [
        (TagType.FLOAT, Reading(1.5, None, 192, SECOND), 1.5, "good"),
        (TagType.INT, Reading(7.0, None, 64, SECOND), 7, "uncertain"),
        (TagType.BOOL, Reading(1.0, None, 24, SECOND), True, "bad"),
        (TagType.STRING, Reading(NAN, "idle", 192, SECOND), "idle", "good"),
        (TagType.FLOAT, Reading(NAN, None, 32, SECOND), None, "bad"),
        (TagType.FLOAT, Reading(math.inf, None, 192, SECOND), None, "good"),
    ],
)
def test_a_live_document_says_value_quality_time_and_unit(
    kind: TagType, reading: Reading, value: object, word: str
) -> None:
    told = json.loads(document(Tag(id=0, topic="t", type=kind, unit="bar"), reading))
    assert told == {
        "value": value,
        "quality": word,
        "code": reading.quality,
        "ts": "1970-01-01T00:00:01.000Z",
        "unit": "bar",
    }
    assert type(told["value"]) is type(value)


def test_time_stamps_are_utc_with_milliseconds() -> None:
    assert timestamp(1_795_366_500_987_654_321) == "2026-11-22T16:55:00.987Z"


def test_newer_readings_replace_older_ones_that_wait_for_the_broker() -> None:
    live = Live(LiveConfig(), "127.0.0.1", client_id="c", state_topic="s", random=lambda: 0.0)
    for tag in (1, 2, 1, 1):
        live.touched(tag)
    assert live.superseded == 2


def test_mqtt_packets_are_those_of_the_standard() -> None:
    # MQTT 3.1.1, 2.2.3 table 2.4.
    assert [length_bytes(n) for n in (0, 127, 128, 16_383, 16_384)] == [
        b"\x00",
        b"\x7f",
        b"\x80\x01",
        b"\xff\x7f",
        b"\x80\x80\x01",
    ]
    assert publish_packet(b"\x00\x03a/b", b"xy", retain=True) == b"\x31\x07\x00\x03a/bxy"
    packet = connect_packet("me", 20, Will("w", b"gone"), "user", "word")
    body = b"\x00\x04MQTT\x04\xe6\x00\x14" + b"\x00\x02me\x00\x01w\x00\x04gone\x00\x04user\x00\x04word"
    assert packet == b"\x10" + bytes([len(body)]) + body


# ---------------------------------------------------------------- blocks, deadbands, back-off


def test_a_block_is_cut_at_its_count_and_holds_what_was_added() -> None:
    cut: list[tuple[bytes, int, int, int]] = []
    batcher = Batcher(BlockConfig(max_samples=4), lambda *block: cut.append(block))
    batcher.add(3, 30, 1.5, 192)
    batcher.add(1, 10, NAN, 192, "text")
    batcher.extend([5, 6, 7, 8, 9, 10, 11], 40, [float(n) for n in range(7)], [192] * 7)
    assert [(count, first, last) for _, count, first, last in cut] == [(4, 10, 40), (4, 40, 40)]
    batcher.flush()
    batcher.flush()
    assert [count for _, count, _, _ in cut] == [4, 4, 1]
    columns = decode(cut[0][0])
    assert list(columns.tag) == [1, 3, 5, 6]
    assert list(columns.ts) == [10, 30, 40, 40]
    assert columns.s == ["text", None, None, None]
    assert [tag for block, *_ in cut for tag in decode(block).tag] == [1, 3, 5, 6, 7, 8, 9, 10, 11]


def test_much_text_cuts_a_block_before_it_is_too_large_to_travel() -> None:
    cut: list[int] = []
    batcher = Batcher(BlockConfig(), lambda block, count, first, last: cut.append(count))
    for number in range(300):
        batcher.add(1, number, NAN, 192, "é" * 1024)
    assert cut == [128, 128]


def test_a_percent_deadband_refers_to_the_normal_band() -> None:
    assert width(Deadband(percent=2.0), 10, 60) == 1.0
    assert width(Deadband(absolute=0.5), None, None) == 0.5
    assert width(0.25, None, None) == 0.25
    assert width(None, 0, 1) == 0
    assert mistakes(Deadband(percent=2.0), None, 5) == ["percent refers to the normal band: give low and high"]
    assert mistakes(Deadband(), 0, 1) == ["give either absolute or percent"]
    assert mistakes(-1.0, 0, 1)


def test_back_off_doubles_to_its_limit_with_jitter_downwards() -> None:
    steady = Backoff(BackoffConfig(min_ms=100, max_ms=1000, jitter=0.5), lambda: 0.0)
    assert [steady.next_delay_s() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    steady.reset()
    assert steady.next_delay_s() == 0.1
    jittered = Backoff(BackoffConfig(min_ms=100, max_ms=1000, jitter=0.5), lambda: 1.0)
    assert [jittered.next_delay_s() for _ in range(3)] == [0.05, 0.1, 0.2]
    for _ in range(2000):
        assert jittered.next_delay_s() <= 1.0
