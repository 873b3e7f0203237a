"""Reads and values: what is asked of a device, and what its bytes mean."""

from __future__ import annotations

import math
import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.block import Quality
from manifests.messages import TagType
from workloads.kit.samples import TagTable
from workloads.modbus.config import BIT_AREAS, Device, Forbidden, Group, Place, ReadConfig, TagConfig
from workloads.modbus.translate import FORMATS, Point, Read, Translation, byte_count, coalesce, halves, spec

PLACE = Place(area="a", line="l", asset="p")
SECOND = 1_000_000_000


class Told:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, int, float, int, str | None]] = []

    def add(self, tag: int, ts_ns: int, value: float, quality: int, text: str | None = None) -> None:
        self.samples.append((tag, ts_ns, value, quality, text))

    def extend(self, tags: object, ts_ns: int, values: object, qualities: object) -> None:
        for tag, value, quality in zip(tags, values, qualities, strict=True):  # type: ignore[call-overload]
            self.samples.append((tag, ts_ns, value, quality, None))

    def values(self) -> list[tuple[int, float | str | None]]:
        found = [(tag, text if text is not None else value) for tag, _, value, _, text in self.samples]
        self.samples.clear()
        return found


def translation(*tags: TagConfig, max_silence_ms: int = 60_000) -> tuple[Translation, Told, TagTable]:
    group = Group(name="g", tags=tags, interval_ms=1000)
    device = Device(name="d", host="h", place=PLACE, groups=(group,))
    told = Told()
    table = TagTable(told, lambda tag: None)
    points = []
    for number, tag in enumerate(tags):
        table.add(spec(number, tag, device, group, "acme/hamburg", max_silence_ms))
        points.append(Point(number, tag))
    [read] = coalesce(points, ReadConfig(max_gap=124))
    return Translation(read, table), told, table


def reg(name: str, address: int, kind: str = "uint16", **more: object) -> TagConfig:
    return TagConfig(name=name, area="input", address=address, type=kind, **more)  # type: ignore[arg-type]


# ---------------------------------------------------------------- reads


@st.composite
def maps(draw: st.DrawFn) -> tuple[list[Point], ReadConfig]:
    limits = ReadConfig(
        max_registers=draw(st.integers(4, 125)),
        max_bits=draw(st.integers(1, 200)),
        max_gap=draw(st.integers(0, 20)),
        forbidden=tuple(
            Forbidden(area=area, first=first, last=first + size)
            for area, first, size in draw(
                st.lists(
                    st.tuples(st.sampled_from(["input", "holding", "coil"]), st.integers(0, 300), st.integers(0, 9)),
                    max_size=4,
                )
            )
        ),
    )
    points = []
    for number, (area, address, kind) in enumerate(
        draw(
            st.lists(
                st.tuples(
                    st.sampled_from(["input", "holding", "coil"]),
                    st.integers(0, 300),
                    st.sampled_from(["uint16", "float32", "int64", "string[4]"]),
                ),
                min_size=1,
                max_size=40,
            )
        )
    ):
        config = TagConfig(name=f"t{number}", area=area, address=address, type="bool" if area == "coil" else kind)  # type: ignore[arg-type]
        first, end = config.address, config.address + config.words
        if not any(zone.area == area and zone.first < end and first <= zone.last for zone in limits.forbidden):
            points.append(Point(number, config))
    return points, limits


@given(maps())
@settings(deadline=None, max_examples=300)
def test_reads_serve_every_tag_once_within_the_limits_and_never_touch_a_forbidden_address(
    case: tuple[list[Point], ReadConfig],
) -> None:
    points, limits = case
    reads = coalesce(points, limits)
    assert sorted(point.tag for read in reads for point in read.points) == sorted(point.tag for point in points)
    for read in reads:
        most = limits.max_bits if read.area in BIT_AREAS else limits.max_registers
        assert 1 <= read.count <= most
        asked = set(range(read.address, read.address + read.count))
        assert all(
            set(range(point.config.address, point.end)) <= asked and point.config.area == read.area
            for point in read.points
        )
        for zone in limits.forbidden:
            assert zone.area != read.area or not asked & set(range(zone.first, zone.last + 1))
        used = {address for point in read.points for address in range(point.config.address, point.end)}
        holes = "".join("." if address in used else "x" for address in sorted(asked))
        assert max((len(hole) for hole in holes.split(".")), default=0) <= limits.max_gap


@given(maps())
@settings(deadline=None)
def test_halving_a_refused_read_keeps_every_tag_and_ends_at_single_ones(case: tuple[list[Point], ReadConfig]) -> None:
    points, limits = case
    work = coalesce(points, limits)
    left: list[Read] = []
    while work:
        read = work.pop()
        if len(read.points) > 1:
            work.extend(halves(read))
        else:
            left.append(read)
    assert sorted(read.points[0].tag for read in left) == sorted(point.tag for point in points)
    assert all(
        (read.address, read.count) == (read.points[0].config.address, read.points[0].config.words) for read in left
    )


def test_neighbours_share_a_read_and_a_wide_gap_splits_it() -> None:
    points = [Point(0, reg("a", 0)), Point(1, reg("b", 5, "float32")), Point(2, reg("c", 40))]
    assert [str(read) for read in coalesce(points, ReadConfig(max_gap=8))] == ["input 0 to 6", "input 40 to 40"]


# ---------------------------------------------------------------- bytes


def wire(kind: str, order: str, value: float) -> bytes:
    """The registers of a value, straight from the definition: A is the most significant byte (or pair, for four
    words the words are reversed as a whole)."""
    big = struct.pack(">" + FORMATS[kind], value)
    words = [big[at : at + 2] for at in range(0, len(big), 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return b"".join(words)


VALUES = {
    "int16": st.integers(-(2**15), 2**15 - 1),
    "uint16": st.integers(0, 2**16 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "int64": st.integers(-(2**53), 2**53),
    "uint64": st.integers(0, 2**53),
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
}


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_every_type_in_every_byte_order_at_every_place_decodes_to_what_was_packed(data: st.DataObject) -> None:
    tags, payload, expected, address = [], b"", [], 0
    for number in range(data.draw(st.integers(1, 8))):
        kind = data.draw(st.sampled_from(sorted(VALUES)))
        order = data.draw(st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]))
        gap = data.draw(st.integers(0, 3))
        value = data.draw(VALUES[kind])
        tags.append(reg(f"t{number}", address + gap, kind, byte_order=order))
        encoded = wire(kind, order, value)
        payload += b"\xff\xee" * gap + encoded
        address += gap + len(encoded) // 2
        expected.append((number, float(value)))
    work, told, _ = translation(*tags)
    work.take(payload[2 * tags[0].address :], SECOND)
    assert sorted(told.values()) == expected  # type: ignore[type-var]


def test_bits_strings_and_overlapping_tags_come_from_one_response() -> None:
    work, told, _ = translation(
        reg("word", 0),
        reg("bit0", 0, "bool", bit=0),
        reg("bit15", 0, "bool", bit=15),
        reg("as_float", 0, "float32"),
        reg("name", 2, "string[4]"),
        reg("swapped", 6, "string[2]", byte_order="BADC"),
    )
    work.take(struct.pack(">HH", 0x8001, 0) + b"pump\0\0\0\0" + b"bALx", SECOND)
    values = dict(told.values())
    assert values[0] == 0x8001
    assert (values[1], values[2]) == (1, 1)
    assert values[3] == struct.unpack(">f", struct.pack(">HH", 0x8001, 0))[0]
    assert (values[4], values[5]) == ("pump", "AbxL")


def test_coils_are_taken_bit_by_bit() -> None:
    tags = [TagConfig(name=f"c{at}", area="coil", address=at) for at in (0, 3, 9)]
    work, told, table = translation(*tags)
    assert byte_count(work.read) == 2
    work.take(bytes([0b0000_1000, 0b10]), SECOND)
    assert told.values() == [(0, 0), (1, 1), (2, 1)]
    assert {tag.type for tag in table.tags} == {TagType.BOOL}


def test_scale_and_offset_give_the_engineering_value() -> None:
    work, told, _ = translation(reg("t", 0, "int16", scale=0.1, offset=-40.0))
    work.take(struct.pack(">h", -125), SECOND)
    assert told.values() == [(0, pytest.approx(-52.5))]


# ---------------------------------------------------------------- by exception


def test_changes_inside_the_deadband_are_not_told_and_do_not_creep() -> None:
    work, told, _ = translation(reg("t", 0, scale=0.1, deadband=0.5))
    for second, raw in enumerate((100, 103, 105, 106, 102, 101, 100), start=1):
        work.take(struct.pack(">H", raw), second * SECOND)
    assert [value for _, value in told.values()] == pytest.approx([10.0, 10.6, 10.0])


def test_a_steady_value_is_told_again_before_its_silence_is_too_long() -> None:
    work, told, _ = translation(reg("t", 0), reg("b", 1, "bool", bit=3), reg("s", 2, "string[1]"), max_silence_ms=5000)
    for second in range(1, 21):
        work.take(b"\0\7\0\x08ok", second * SECOND)
    for tag in range(3):
        times = [ts // SECOND for number, ts, *_ in told.samples if number == tag]
        assert times[0] == 1
        assert all(later - earlier <= 5 for earlier, later in pairwise(times))
        assert len(times) <= 6
    assert {sample[3] for sample in told.samples} == {Quality.GOOD}


def test_after_a_failure_the_next_response_is_told_whole_even_if_nothing_changed() -> None:
    work, told, table = translation(reg("t", 0), reg("b", 1, "bool", bit=0))
    work.take(b"\0\7\0\1", SECOND)
    assert table.fail(work.tags, 2 * SECOND, Quality.BAD_COMMUNICATION) == 2
    work.forget()
    assert table.good_tags == 0
    told.samples.clear()
    work.take(b"\0\7\0\1", 3 * SECOND)
    assert told.values() == [(1, 1), (0, 7)]
    assert table.good_tags == 2


def test_a_float_that_is_no_number_is_a_sensor_failure_told_once() -> None:
    work, told, table = translation(reg("t", 0, "float32"))
    for second in (1, 2, 3):
        work.take(struct.pack(">f", math.nan), second * SECOND)
    assert [(quality, ts) for _, ts, _, quality, _ in told.samples] == [(Quality.BAD_SENSOR_FAILURE, SECOND)]
    work.take(struct.pack(">f", 2.5), 4 * SECOND)
    assert told.samples[-1][2:4] == (2.5, Quality.GOOD)
    assert table.good_tags == 1
