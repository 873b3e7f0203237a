"""Whether the samples of a run are what the project expects, with the values that decided it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from vplc.scan.values import Json
from vplc.simulate.project import Check
from vplc.simulate.simulation import Samples


@dataclass(frozen=True, slots=True)
class Outcome:
    """`wanted` and `text` are for people, `measured` for machines."""

    name: str
    expect: str
    variable: str
    passed: bool
    wanted: str
    measured: dict[str, Json]
    text: str

    def as_json(self) -> dict[str, Json]:
        return {
            "name": self.name,
            "expect": self.expect,
            "variable": self.variable,
            "passed": self.passed,
            "wanted": self.wanted,
            "measured": self.measured,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class _Window:
    """The samples that a check looks at: from index `first` on."""

    values: memoryview[float]
    first: int
    step_ns: int

    def time_s(self, index: int) -> float:
        return (self.first + index) * self.step_ns / 1e9

    def first_where(self, test: Callable[[float], bool]) -> int | None:
        return next((i for i, v in enumerate(self.values) if test(v)), None)


def evaluate(check: Check, samples: Samples) -> Outcome:
    """One check. A run that ended before the check's last instant fails it, as does a value that is no number."""
    window = _window(check, samples, check.variable)
    wanted = _wanted(check)
    reason = _unusable(check, samples, window)
    if reason:
        return Outcome(check.name, check.expect, check.variable, False, wanted, {}, reason)
    passed, measured, text = _TESTS[check.expect](check, samples, window)
    return Outcome(check.name, check.expect, check.variable, passed, wanted, measured, text)


def _window(check: Check, samples: Samples, path: str) -> _Window:
    first = -(-check.from_ns // samples.step_ns)
    last = check.to_ns // samples.step_ns
    return _Window(samples.values[path][first : last + 1], first, samples.step_ns)


def _unusable(check: Check, samples: Samples, window: _Window) -> str:
    wanted = check.to_ns // samples.step_ns + 1
    if samples.count < wanted:
        return f"the simulation ended after {samples.count * samples.step_ns / 1e9:g} s, before the end of the check"
    if not len(window.values):
        return "there is no sample in this time"
    if not math.isfinite(sum(window.values)):
        at = window.first_where(math.isnan)
        if at is not None:
            return f"is not a number at {window.time_s(at):g} s"
    return ""


def _wanted(check: Check) -> str:
    span = f"from {check.from_ns / 1e9:g} s to {check.to_ns / 1e9:g} s"
    if check.expect == "within":
        return f"{check.low:g} to {check.high:g}, {span}"
    if check.expect == "settles":
        goal = check.target if isinstance(check.target, str) else f"{check.target:g}"
        return f"{goal} +/- {check.band:g} within {check.within_ns / 1e9:g} s, {span}"
    limit = (
        f"above {check.above:g}"
        if check.above is not None
        else f"below {check.below:g}"
        if check.below is not None
        else f"equal to {check.equals:g}"
    )
    return f"{check.expect} {limit}, {span}"


def _within(check: Check, samples: Samples, window: _Window) -> tuple[bool, dict[str, Json], str]:
    low, high = min(window.values), max(window.values)
    measured: dict[str, Json] = {"lowest": low, "highest": high}
    if check.low <= low and high <= check.high:
        return True, measured, f"{low:g} to {high:g}"
    at = window.first_where(lambda v: not check.low <= v <= check.high)
    assert at is not None
    measured["left_s"] = window.time_s(at)
    return False, measured, f"{low:g} to {high:g}, outside first at {window.time_s(at):g} s"


def _hit(check: Check) -> Callable[[float], bool]:
    above, below, equals = check.above, check.below, check.equals
    if above is not None:
        return lambda v: v > above
    if below is not None:
        return lambda v: v < below
    return lambda v: v == equals


def _found(check: Check, window: _Window) -> tuple[int | None, float, float]:
    low, high = min(window.values), max(window.values)
    possible = True  # min and max are quick; the first instant is only looked for when there is one
    if check.above is not None:
        possible = high > check.above
    elif check.below is not None:
        possible = low < check.below
    return (window.first_where(_hit(check)) if possible else None), low, high


def _never(check: Check, samples: Samples, window: _Window) -> tuple[bool, dict[str, Json], str]:
    at, low, high = _found(check, window)
    measured: dict[str, Json] = {"lowest": low, "highest": high}
    if at is None:
        return True, measured, f"{low:g} to {high:g}"
    measured["first_s"] = window.time_s(at)
    return False, measured, f"{window.values[at]:g} at {window.time_s(at):g} s; {low:g} to {high:g} in all"


def _eventually(check: Check, samples: Samples, window: _Window) -> tuple[bool, dict[str, Json], str]:
    at, low, high = _found(check, window)
    measured: dict[str, Json] = {"lowest": low, "highest": high}
    if at is None:
        return False, measured, f"not once: {low:g} to {high:g}"
    measured["first_s"] = window.time_s(at)
    return True, measured, f"first at {window.time_s(at):g} s"


def _settles(check: Check, samples: Samples, window: _Window) -> tuple[bool, dict[str, Json], str]:
    """The settling time is that of the last sample outside the band, plus one step."""
    target, values = check.target, window.values
    if isinstance(target, str):
        goals = _window(check, samples, target).values
        errors = [v - g for v, g in zip(values, goals, strict=True)]
    else:
        errors = [v - target for v in values]
    band, last = check.band, len(errors) - 1
    while last >= 0 and -band <= errors[last] <= band:
        last -= 1
    measured: dict[str, Json] = {"final_error": errors[-1], "highest_error": max(errors), "lowest_error": min(errors)}
    if last == len(errors) - 1:
        return False, measured, f"not settled: still {errors[-1]:+g} away at the end"
    settled_s = max(0.0, (window.first + last + 1) * samples.step_ns / 1e9 - check.from_ns / 1e9)
    measured["settled_after_s"] = settled_s
    text = f"after {settled_s:g} s; error {min(errors):+g} to {max(errors):+g}"
    return settled_s * 1e9 <= check.within_ns + 0.5, measured, text


_TESTS: dict[str, Callable[[Check, Samples, _Window], tuple[bool, dict[str, Json], str]]] = {
    "within": _within,
    "never": _never,
    "eventually": _eventually,
    "settles": _settles,
}
