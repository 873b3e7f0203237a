"""Which outputs a driver owes its device."""

from __future__ import annotations

from vplc.drivers.outputs import Outputs, Source
from vplc.drivers.rows import Writing
from vplc.scan.image import Quality, Value

S = 1_000_000_000
SAFE = {"a": 0, "b": 9}


def outputs(refresh_s: float = 0, host_timeout_s: float = 1, insist: bool = False) -> Outputs:
    return Outputs(Writing(True, int(refresh_s * S), int(host_timeout_s * S), insist), SAFE)


def image(a: int, b: int, epoch: int = 0, quality: Quality = Quality.GOOD) -> dict[str, Value]:
    return {"a": Value(a, quality, 0, epoch), "b": Value(b, quality, 0, epoch)}


def test_nothing_is_written_before_the_host_has_published() -> None:
    assert outputs().due({}, None, 0).values == {}
    assert outputs().due(image(1, 2, quality=Quality.NEVER), 0, 0).values == {}


def test_only_what_changed_since_the_device_acknowledged_it_is_due() -> None:
    made = outputs()
    assert made.due(image(1, 2), 0, 0).values == {"a": 1, "b": 2}
    assert made.due(image(1, 2), 0, 0).values == {"a": 1, "b": 2}  # not acknowledged yet
    made.written({"a": 1, "b": 2}, 0)
    assert made.due(image(1, 2), 0, 100 * S).values == {}
    assert made.due(image(1, 3), 0, 100 * S).values == {"b": 3}


def test_a_refresh_repeats_what_has_not_changed() -> None:
    made = outputs(refresh_s=2)
    made.written({"a": 1}, 0)
    made.written({"b": 2}, 1 * S)
    assert made.due(image(1, 2), 0, 2 * S).values == {"a": 1}
    assert made.due(image(1, 2), 0, 3 * S).values == {"a": 1, "b": 2}


def test_after_a_lost_connection_everything_is_due_again() -> None:
    made = outputs()
    made.written({"a": 1, "b": 2}, 0)
    made.forget()
    assert made.due(image(1, 2), 0, 0).values == {"a": 1, "b": 2}


def test_a_dead_host_means_the_safe_values_once() -> None:
    made = outputs()
    made.written({"a": 1, "b": 9}, 0)
    due = made.due(image(1, 9), 2 * S, 2 * S)
    assert due.source is Source.SAFE
    assert due.values == {"a": 0}
    made.written(due.values, 2 * S)
    assert made.due(image(1, 9), 9 * S, 9 * S).values == {}
    assert made.due(image(1, 9), 0, 10 * S).values == {"a": 1}


def test_without_a_time_out_a_dead_host_changes_nothing() -> None:
    made = outputs(host_timeout_s=0)
    made.written({"a": 1, "b": 2}, 0)
    assert made.due(image(1, 2), 99 * S, 99 * S).values == {}


def test_where_another_host_stands_by_a_dead_one_is_not_made_safe_unless_asked_for() -> None:
    due = outputs().due(image(1, 2), 2 * S, 2 * S, paired=True)
    assert due.source is Source.OTHERS
    assert due.values == {}
    assert outputs(insist=True).due(image(1, 2), 2 * S, 2 * S, paired=True).source is Source.SAFE


def test_outputs_of_an_epoch_that_is_over_are_never_written() -> None:
    made = outputs()
    assert made.due(image(1, 2, epoch=4), 0, 0).values == {"a": 1, "b": 2}
    assert made.due(image(5, 6, epoch=3), 0, 0).values == {}
    assert made.due(image(7, 8, epoch=5), 0, 0).values == {"a": 7, "b": 8}


def test_after_another_host_led_everything_is_written_again() -> None:
    made = outputs()
    made.due(image(1, 2, epoch=1), 0, 0)
    made.written({"a": 1, "b": 2}, 0)
    assert made.due(image(1, 2, epoch=1), 0, 0).values == {}
    assert made.due(image(1, 2, epoch=3), 0, 0).values == {"a": 1, "b": 2}
