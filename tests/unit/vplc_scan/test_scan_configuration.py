"""What a scan configuration may say, and what is refused with all its mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.vplc_scan import scan_documents as documents
from vplc.scan import configuration, layout
from vplc.scan.errors import Refused


def check(**more: Any) -> configuration.Configuration:
    made = layout.parse(documents.document(), "t.json")
    return configuration.check({"library": "t.so", **more}, made, Path("t.so"), "scan.json", Path())


def problems(**more: Any) -> list[str]:
    with pytest.raises(Refused) as caught:
        check(**more)
    return [str(p) for p in caught.value.problems]


def drivers(inputs: list[dict[str, Any]] | None = None, outputs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"io": {"inputs": inputs or [], "outputs": outputs or []}}


def test_tasks_run_in_order_of_priority() -> None:
    assert [t.name for t in check().tasks] == ["Fast", "Slow"]


def test_programs_without_a_task_run_in_main() -> None:
    programs = [{"name": "P1", "type": "Main", "task": None, "offset": 160, "run": "vplc_run_P1"}]
    made = layout.parse(documents.document(programs=programs, tasks=[]), "t.json")
    done = configuration.check({"library": "t.so", "interval_ms": 2}, made, Path("t.so"), "scan.json", Path())
    assert [(t.name, t.interval_ns) for t in done.tasks] == [("Main", 2_000_000)]


def test_a_task_without_an_interval_is_refused() -> None:
    tasks = [
        {"name": "Fast", "interval_ns": None, "priority": 1, "single": "x"},
        {"name": "Slow", "interval_ns": 10**8, "priority": 2},
    ]
    made = layout.parse(documents.document(tasks=tasks), "t.json")
    with pytest.raises(Refused, match="Fast: the program gives this task no INTERVAL"):
        configuration.check({"library": "t.so"}, made, Path("t.so"), "scan.json", Path())


def test_a_channel_takes_its_type_from_the_variable_at_its_address() -> None:
    done = check(drivers=drivers([{"address": "%IW1"}]))
    assert done.drivers[0].inputs[0].type == "INT"
    assert done.drivers[0].inputs[0].offset == 130


def test_an_input_mapped_by_two_drivers_is_refused_naming_both() -> None:
    both = {"a": {"inputs": [{"address": "%IW1"}]}, "b": {"inputs": [{"name": "again", "variable": "P1.level"}]}}
    found = problems(drivers=both)
    assert len(found) == 1
    assert "drivers.b.inputs[0]" in found[0]
    assert "drivers.a.inputs[0]" in found[0]
    assert "twice" in found[0]


@pytest.mark.parametrize(
    ("one", "other"), [("%IB2", "%IW1"), ("%IX2.3", "%IB2"), ("%IX1.1", "%IX1.1"), ("%ID0", "%IX3.7")]
)
def test_overlapping_inputs_are_refused(one: str, other: str) -> None:
    found = problems(drivers=drivers([{"name": "a", "address": one}, {"name": "b", "address": other}]))
    assert [f for f in found if "mapped twice" in f]


def test_bits_of_one_byte_are_different_channels() -> None:
    done = check(drivers=drivers([{"address": "%IX0.0"}, {"address": "%IX0.1"}]))
    assert len(done.drivers[0].inputs) == 2


def test_a_quality_byte_counts_as_mapped() -> None:
    rows = [{"name": "a", "address": "%IW1", "quality_address": "%IB4"}, {"name": "b", "address": "%IB4"}]
    assert "mapped twice" in problems(drivers=drivers(rows))[0]


def test_an_address_beyond_the_area_is_refused() -> None:
    assert "8 bytes" in problems(drivers=drivers([{"address": "%IW4"}]))[0]


def test_an_output_is_not_an_input() -> None:
    assert "no address of the form %IX" in problems(drivers=drivers([{"address": "%QW1"}]))[0]


def test_all_mistakes_are_reported_at_once() -> None:
    found = problems(
        core="one",
        tasks={"Fsat": {}},
        watchdogs=1,
        drivers=drivers(
            [
                {"variable": "P1.levle"},
                {"address": "%IW1", "substitute": 70_000},
                {"address": "%IX0.0", "stale": "keep"},
            ],
            [{"address": "%QX0.0", "safe": 2}],
        ),
    )
    text = "\n".join(found)
    for part in (
        "core",
        'did you mean "Fast"',
        'unknown key "watchdogs"',
        'did you mean "P1.level"',
        "does not fit INT",
        "hold, zero",
        "not a BOOL",
    ):
        assert part in text
    assert len(found) == 7


def test_a_substitute_needs_its_value() -> None:
    assert "substitute" in problems(drivers=drivers([{"address": "%IW1", "stale": "substitute"}]))[0]


def test_an_output_is_made_safe_by_the_task_that_writes_it() -> None:
    rows = [{"address": "%QX0.0"}, {"address": "%QX0.1"}, {"address": "%QB1"}, {"address": "%QW1"}]
    done = check(drivers=drivers(outputs=rows))
    assert [c.tasks for c in done.drivers[0].outputs] == [("Fast",), ("Slow",), ("Fast", "Slow"), ("Fast", "Slow")]


def test_a_changed_layout_is_refused() -> None:
    changed = {**documents.document(), "state_size": 512}
    with pytest.raises(Refused, match="seal is broken"):
        layout.parse(changed, "t.json")


def test_a_layout_of_another_format_is_refused() -> None:
    with pytest.raises(Refused, match="format 2"):
        layout.parse(documents.seal({**documents.document(), "format": 2}), "t.json")


def test_a_layout_with_missing_parts_is_refused() -> None:
    broken = documents.document()
    del broken["header"]
    with pytest.raises(Refused, match="header"):
        layout.parse(documents.seal(broken), "t.json")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("%IX0.3", ("I", 0, 3, 1)), ("%ix9", ("I", 1, 1, 1)), ("%QW2", ("Q", 4, -1, 2)), ("%MD1", ("M", 4, -1, 4)),
        ("%QL1", ("Q", 8, -1, 8)), ("%IX0.8", None), ("%IW1.2", None), ("%XW1", None), ("IW1", None),
    ],
)  # fmt: skip
def test_addresses_mean_what_the_compiler_means(text: str, found: object) -> None:
    assert layout.parse_address(text) == found


REMOTE = {"role": "primary", "listen": "10.0.0.1:7400", "peer": "10.0.0.2:7400"}


def test_a_standby_on_the_same_machine_needs_a_channel_and_on_another_a_decision_about_partitions() -> None:
    done = check(standby={"role": "standby", "channel": "/dev/shm/pair"}).standby
    assert done is not None
    assert (done.channel, done.missed_scans, done.lease_ns) == (Path("/dev/shm/pair"), 2, 20_000_000)
    done = check(standby={**REMOTE, "witness": "[fd00::3]:7400", "missed_scans": 4}).standby
    assert done is not None
    assert (done.channel, done.missed_scans, done.lease_ns) == (None, 4, 40_000_000)
    assert check(standby={**REMOTE, "partition": "stop"}).standby is not None


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"role": "primary"}, "needs either a channel or the addresses"),
        ({**REMOTE, "channel": "x", "partition": "stop"}, "needs either a channel or the addresses"),
        ({**REMOTE}, 'needs either "witness" or "partition": "stop"'),
        ({**REMOTE, "partition": "drive"}, 'needs either "witness" or "partition": "stop"'),
        ({**REMOTE, "partition": "stop", "witness": "10.0.0.3:7400"}, 'needs either "witness" or'),
        ({**REMOTE, "partition": "stop", "peer": "press.local:7400"}, "standby.peer: must be an IP address and a port"),
        ({**REMOTE, "partition": "stop", "listen": "10.0.0.1"}, "standby.listen: must be an IP address and a port"),
        ({**REMOTE, "partition": "stop", "lease_ms": 15}, "must be at least two intervals (20 ms)"),
        ({"role": "both", "channel": "x"}, 'must be "primary" or "standby", is'),
        ({"role": "primary", "chanel": "x", "channel": "y"}, 'unknown key "chanel"'),
    ],
)
def test_a_standby_that_cannot_work_is_refused(table: dict[str, Any], said: str) -> None:
    assert any(said in p for p in problems(standby=table))
