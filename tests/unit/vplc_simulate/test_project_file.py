"""A wrong project file is refused with every mistake, its line and the nearest key."""

from __future__ import annotations

import pytest

from vplc.scan.errors import Refused
from vplc.simulate.project import Fault, Ramp, Set, parse

GOOD = """name: tank
sources: [tank.st]
duration: 1m30s
plant: {source: plant.st, dt: dt_s}
wiring:
  inputs:
    - {from: level, to: level}
  outputs:
    - {from: pump, to: speed, scale: 0.1}
stimuli:
  - {at: 10s, set: setpoint, to: 3}
  - {at: 20s, ramp: plant.valve, to: 80, over: 500ms}
  - {at: 30s, fault: level, kind: bad, for: 5s}
checks:
  - {expect: never, variable: level, above: 5}
  - {name: step, expect: settles, variable: level, target: setpoint, band: 0.1, from: 10s, within: 5s}
plots:
  - {title: Level, variables: [level]}
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(Refused) as refused:
        parse(text, "project.yaml")
    return [str(p) for p in refused.value.problems]


def test_a_project_is_read_into_types() -> None:
    project = parse(GOOD, "project.yaml")
    assert project.duration_ns == 90_000_000_000
    assert [type(s) for s in project.stimuli] == [Set, Ramp, Fault]
    assert project.checks[0].name == "never level"
    assert project.checks[0].to_ns == project.duration_ns
    assert project.checks[1].target == "setpoint"
    assert project.outputs[0].scale == 0.1


def test_all_mistakes_are_told_at_once_with_line_and_nearest_key() -> None:
    text = """name: tank
profil: iec
sources: []
duration: ten
plant: {source: a.st, python: "b.py"}
wiring:
  inputs:
    - {from: level, too: level}
    - {from: x, to: level, stale: freeze}
    - {from: y, to: LEVEL}
stimuli:
  - {at: 10, set: setpoint}
  - {at: 1s, fault: pressure, kind: bad}
  - {at: 1s}
checks:
  - {expect: within, variable: level, low: 5, high: 3}
  - {expect: never, variable: level}
  - {expect: setles, variable: level}
"""
    said = "\n".join(mistakes(text))
    for what in (
        'project.yaml:2 profil: unknown key "profil"', 'did you mean "profile"',
        "project.yaml:3 sources: must be a text",
        "project.yaml:4 duration: 'ten' is not a duration", 'needs either "source"', "names no class",
        'project.yaml:8 wiring.inputs[0].too: unknown key "too"', "project.yaml:8 wiring.inputs[0].to: is missing",
        "stale: must be one of", "project.yaml:10 wiring.inputs[2]: LEVEL already gets its value from x",
        "project.yaml:12 stimuli[0].at: '10' is not a duration", "stimuli[0].to: is missing",
        "pressure is no wired input", 'project.yaml:14 stimuli[2]: needs one of "set", "ramp" and "fault"',
        "checks[0].low: 5 lies above high", 'checks[1]: needs one of "above"', 'did you mean "settles"',
    ):  # fmt: skip
        assert what in said, f"{what}\n---\n{said}"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("duration: 1m30s", "duration: 0s"), "longer than nothing"),
        (
            ("target: setpoint, band: 0.1, from: 10s, within: 5s", "target: 1, band: 1, from: 80s, within: 20s"),
            "beyond",
        ),
        (("above: 5", "above: 5, from: 50s, to: 40s"), "must lie within the simulation"),
        (("at: 10s", "at: 10m"), "after the end"),
        (("name: tank", "name: tank\nname: again"), "is given twice"),
        (("checks:", "check:"), "without expectations"),
        (("to: 80,", "to: high,"), "must be a number, is 'high'"),
        (("- {expect: never", "- {name: step, expect: never"), "the name 'step' is taken"),
    ],
)
def test_each_mistake_alone_is_found(change: tuple[str, str], what: str) -> None:
    assert change[0] in GOOD
    assert what in "\n".join(mistakes(GOOD.replace(*change, 1)))


@pytest.mark.parametrize("text", ["", "- a", "a: [", "a: !!python/object:os.system {}", "\0", "a: &x [*x]"])
def test_what_is_no_project_is_refused_in_words(text: str) -> None:
    assert mistakes(text)
