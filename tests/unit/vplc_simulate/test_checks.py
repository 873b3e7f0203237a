"""Verdicts and measured values, on samples written out by hand."""

from __future__ import annotations

import array
import math
from typing import Any

from vplc.simulate.checks import Outcome, evaluate
from vplc.simulate.machine import Column
from vplc.simulate.project import Check
from vplc.simulate.simulation import Samples

S = 1_000_000_000


def judge(values: list[float], expect: str, goals: list[float] | None = None, **more: Any) -> Outcome:
    """Samples one second apart."""
    base: dict[str, Any] = {
        "name": "x", "variable": "v", "from_ns": 0, "to_ns": (len(values) - 1) * S, "low": -math.inf, "high": math.inf,
        "above": None, "below": None, "equals": None, "target": 0.0, "band": 0.0, "within_ns": 0, "where": "",
    }  # fmt: skip
    columns = {"v": values, **({"g": goals} if goals else {})}
    samples = Samples(
        S,
        len(values),
        tuple(Column(name, "real") for name in columns),
        {name: memoryview(array.array("d", column)) for name, column in columns.items()},
    )
    return evaluate(Check(expect=expect, **{**base, **more}), samples)


def test_within_tells_the_extremes_and_when_the_band_was_left() -> None:
    assert judge([1, 2, 3], "within", low=1, high=3).measured == {"lowest": 1, "highest": 3}
    left = judge([1, 2, 4, 9], "within", low=1, high=3)
    assert not left.passed
    assert left.measured == {"lowest": 1, "highest": 9, "left_s": 2.0}


def test_only_the_samples_of_its_time_count() -> None:
    assert judge([9, 1, 1, 9], "within", low=0, high=3, from_ns=S, to_ns=2 * S).passed
    assert not judge([9, 1, 1, 9], "within", low=0, high=3, from_ns=S, to_ns=3 * S).passed


def test_never_and_eventually_are_opposites() -> None:
    for values, hit in (([1, 2, 3], False), ([1, 6, 3], True)):
        assert judge(values, "never", above=5.0).passed is not hit
        assert judge(values, "eventually", above=5.0).passed is hit
    assert judge([1, 6, 3], "never", above=5.0).measured["first_s"] == 1.0
    assert judge([0, 0, 1], "eventually", equals=1.0).measured["first_s"] == 2.0
    assert not judge([5, 5], "never", below=6.0).passed
    assert judge([5, 5], "never", above=5.0).passed


def test_the_settling_time_ends_with_the_last_sample_outside() -> None:
    step = judge([0, 5, 12, 9.5, 10.2, 10], "settles", target=10.0, band=1.0, within_ns=3 * S)
    assert step.passed
    assert step.measured["settled_after_s"] == 3.0
    assert not judge([0, 5, 12, 9.5, 10.2, 10], "settles", target=10.0, band=1.0, within_ns=2 * S).passed


def test_leaving_the_band_again_is_not_settled() -> None:
    again = judge([0, 10, 10, 10, 20], "settles", target=10.0, band=1.0, within_ns=2 * S)
    assert not again.passed
    assert "still +10 away" in again.text


def test_a_target_may_be_a_variable() -> None:
    follows = judge([0, 1, 2, 3], "settles", goals=[1, 2, 2, 3], target="g", band=0.5, within_ns=2 * S)
    assert follows.passed
    assert follows.measured["settled_after_s"] == 2.0


def test_what_is_no_number_fails_every_check() -> None:
    for expect, more in (
        ("within", {"low": -1e9, "high": 1e9}),
        ("never", {"above": 1e9}),
        ("eventually", {"below": 1e9}),
    ):
        verdict = judge([1, math.nan, 1], expect, **more)
        assert not verdict.passed
        assert "is not a number at 1 s" in verdict.text


def test_a_run_that_ended_early_fails_what_it_did_not_reach() -> None:
    verdict = judge([1, 1, 1], "within", low=0, high=2, to_ns=10 * S)
    assert not verdict.passed
    assert "ended after 3 s" in verdict.text
