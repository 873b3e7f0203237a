"""What a driver says about itself, and what is made of it when nobody is behind it any more."""

from __future__ import annotations

import json
import os
from pathlib import Path

from vplc.drivers import status
from vplc.drivers.status import Group, State, Status


def make(folder: Path, state: State = State.RUNNING) -> Status:
    made = Status(folder, "io.2", "modbus", "h:502", True)
    made.groups = [Group("read input 0..1 of unit 1", True, "")]
    made.show(state)
    for n in range(100):
        made.trip(n / 1e6)
    made.publish(0.0, force=True)
    return made


def test_a_living_driver_is_read_back(tmp_path: Path) -> None:
    make(tmp_path)
    [row] = status.read(tmp_path)
    assert (row["name"], row["state"], row["alive"]) == ("io.2", "running", True)
    assert row["round_trip_us"] == {"p50": 50.0, "p99": 99.0, "max": 99.0}


def test_the_file_is_only_written_when_it_says_something_new_or_a_second_has_passed(tmp_path: Path) -> None:
    made = make(tmp_path)
    path = status.path_of(tmp_path, "io.2")
    path.unlink()
    made.publish(0.5)
    assert not path.exists()
    made.publish(1.5)
    assert path.exists()
    path.unlink()
    made.groups[0].good = False
    made.publish(1.6)
    assert path.exists()


def test_a_dead_driver_is_silent_with_its_last_words(tmp_path: Path) -> None:
    make(tmp_path)
    path = status.path_of(tmp_path, "io.2")
    row = json.loads(path.read_text())
    row["updated_unix_ns"] -= 60_000_000_000
    path.write_text(json.dumps(row))
    [read] = status.read(tmp_path)
    assert (read["state"], read["alive"]) == ("silent", False)
    assert "running" in str(read["reason"])


def test_a_driver_that_was_stopped_stays_stopped(tmp_path: Path) -> None:
    make(tmp_path, State.STOPPED)
    path = status.path_of(tmp_path, "io.2")
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 4194304'))
    assert [r["state"] for r in status.read(tmp_path)] == ["stopped"]


def test_a_driver_is_found_by_its_lock_and_other_files_are_not_taken_for_one(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "driver.io.2.lock").touch()
    (tmp_path / "driver.never.lock").touch()
    (tmp_path / "driver.odd.json").write_text("[")
    (tmp_path / "driver.other.json").write_text('{"format": "x"}')
    assert [r["name"] for r in status.read(tmp_path)] == ["io.2"]
