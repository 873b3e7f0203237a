"""The demo's motor over its ten minutes, record by record, without a network or a clock."""

from __future__ import annotations

import pytest

from tests.simulators.bearing_wear import Point, life


@pytest.fixture(scope="module")
def points() -> list[Point]:
    return life()


def first(points: list[Point], what: str) -> Point:
    return next(one for one in points if (one.alert if what == "alert" else one.zone > "B"))


def test_the_worn_race_is_named_while_severity_has_not_moved(points: list[Point]) -> None:
    named = first(points, "alert")
    assert named.alert == "drive-end: OR"
    assert {one.zone for one in points if one.minutes <= named.minutes} == {"B"}


def test_severity_leaves_its_zone_minutes_later(points: list[Point]) -> None:
    assert first(points, "zone").minutes - first(points, "alert").minutes > 1


def test_the_sound_half_of_its_life_raises_nothing(points: list[Point]) -> None:
    assert {one.fault for one in points if one.minutes < 5} == {"N"}


def test_once_plain_it_is_never_taken_back(points: list[Point]) -> None:
    late = [one for one in points if one.minutes > 7.5]
    assert {(one.fault, one.alert.split(";")[0]) for one in late} == {("OR", "drive-end: OR")}
