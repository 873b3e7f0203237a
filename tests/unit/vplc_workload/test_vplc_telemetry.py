"""Variables as tags: types, units, qualities."""

from __future__ import annotations

import math
from typing import Any

import pytest

from manifests.block import Quality
from manifests.messages import TagType
from vplc.scan.layout import Variable
from workloads.vplc.config import Place
from workloads.vplc.program import TagConfig
from workloads.vplc.telemetry import Point, entry_text, sample, spec, tag_type


def variable(base: str, **more: Any) -> Variable:
    usual: dict[str, Any] = {
        "path": "P.x", "program": "P", "type": base, "base": base, "offset": 0, "size": 4, "bit": -1, "retain": False,
        "constant": False, "address": None,
    }  # fmt: skip
    return Variable(**usual | more)


@pytest.mark.parametrize(
    ("base", "kind"),
    [("BOOL", TagType.BOOL), ("INT", TagType.INT), ("LREAL", TagType.FLOAT), ("TIME", TagType.FLOAT),
     ("STRING[20]", TagType.STRING), ("Mode", TagType.INT)],
)  # fmt: skip
def test_each_type_has_its_tag(base: str, kind: TagType) -> None:
    assert tag_type(base) is kind


def test_a_tag_stands_at_its_place_and_says_where_it_comes_from() -> None:
    tag = TagConfig(variable="p.x", name="level", unit="mm", deadband=2.0)
    made = spec(3, tag, variable("INT", address="%IW0"), Place(area="a", line="l", asset="p"), "acme/hh", 60_000)
    assert (made.tag.id, made.tag.topic, made.tag.source) == (3, "acme/hh/a/l/p/level", "P.x INT AT %IW0")
    assert (made.deadband, made.max_silence_ns) == (2.0, 60_000_000_000)


def test_a_duration_is_told_in_seconds() -> None:
    made = spec(
        0, TagConfig(variable="p.x", name="t"), variable("TIME"), Place(area="a", line="l", asset="p"), "e/s", 1
    )
    assert made.tag.unit == "s"
    assert sample(Point(0, "P.x", "TIME", None, "P"), {"P.x": 2_500_000_000}).value == 2.5


@pytest.mark.parametrize(
    ("worth", "quality"),
    [(1, Quality.GOOD), (2, Quality.UNCERTAIN), (3, Quality.BAD_DEVICE_FAILURE), (4, Quality.BAD_LAST_KNOWN),
     (0, Quality.BAD_WAITING), (77, Quality.BAD), (None, Quality.BAD)],
)  # fmt: skip
def test_the_quality_byte_says_what_a_value_is_worth(worth: int | None, quality: Quality) -> None:
    told = sample(Point(0, "P.x", "INT", "P.q", "P"), {"P.x": 5, "P.q": worth})
    assert (told.value, told.quality) == (5.0, quality)


def test_an_entry_of_the_journal_is_a_sentence() -> None:
    entry = {
        "n": 3,
        "at": "2026-11-22T20:00:00.000Z",
        "who": "anna",
        "what": "force",
        "path": "P.x",
        "value": 5,
        "before": 0,
    }
    assert entry_text(entry) == "2026-11-22T20:00:00.000Z anna force P.x = 5 (was 0)"
    assert entry_text({"at": "t", "who": "keeper", "what": "switch-over"}) == "t keeper switch-over"


def test_texts_booleans_and_no_numbers() -> None:
    assert sample(Point(0, "a", "STRING[8]", None, None), {"a": "on"}).text == "on"
    assert sample(Point(0, "a", "BOOL", None, None), {"a": True}).value == 1.0
    told = sample(Point(0, "a", "REAL", None, None), {"a": "nan"})
    assert math.isnan(told.value)
    assert told.quality == Quality.BAD_SENSOR_FAILURE
