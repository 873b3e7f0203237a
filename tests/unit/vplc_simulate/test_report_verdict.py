"""`passed` looks at the parts of a report, not only at its verdict."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from vplc.simulate.report import passed

SIMULATION: dict[str, Any] = {
    "format": "vplc.simulation/1", "passed": True, "source_sha256": "s", "fault": None,
    "checks": [{"name": "a", "passed": True}],
}  # fmt: skip
COMMISSION: dict[str, Any] = {
    "format": "vplc.commission/1", "passed": True, "source_sha256": "s", "tests": [{"name": "t", "passed": True}],
    "simulation": SIMULATION, "builds": [{"target": "x86-64", "source_sha256": "s"}],
}  # fmt: skip


def test_a_sound_report_passes() -> None:
    assert passed(SIMULATION)
    assert passed(COMMISSION)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("passed",), False),
        (("passed",), 1),
        (("format",), "vplc.commission/2"),
        (("tests",), []),
        (("tests",), "yes"),
        (("tests", 0, "passed"), False),
        (("simulation",), None),
        (("simulation", "passed"), False),
        (("simulation", "checks"), []),
        (("simulation", "checks", 0, "passed"), False),
        (("simulation", "fault"), {"message": "division by zero"}),
        (("simulation", "source_sha256"), "other"),
        (("simulation", "format"), "vplc.commission/1"),
        (("builds",), []),
        (("builds", 0, "source_sha256"), "other"),
    ],
)
def test_one_wrong_part_fails_the_whole(path: tuple[Any, ...], value: object) -> None:
    report: Any = copy.deepcopy(COMMISSION)
    at = report
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert not passed(report)


@pytest.mark.parametrize("document", [None, {}, [], "passed", {"passed": True}, {"format": "vplc.simulation/1"}])
def test_anything_else_fails(document: object) -> None:
    assert not passed(document)
