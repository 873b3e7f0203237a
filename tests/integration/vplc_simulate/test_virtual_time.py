"""What a simulation does, scan by scan, against the same thing computed in plain Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from vplc.scan.errors import Refused
from vplc.simulate.simulate import Simulated, open_project, simulate

PROGRAM = """PROGRAM Fast
VAR
  x AT %IW0 : INT;
  b AT %IX2.3 : BOOL;
  q AT %IB3 : BYTE;
  y AT %QW0 : INT;
  n : UDINT;
  gain : INT := 2;
END_VAR
n := n + 1;
y := x * gain;
END_PROGRAM
PROGRAM Slow
VAR
  n : UDINT;
  seen : UDINT;
END_VAR
VAR_EXTERNAL total : UDINT; END_VAR
n := n + 1;
total := total + n;
END_PROGRAM
CONFIGURATION C
VAR_GLOBAL total : UDINT; END_VAR
RESOURCE R ON PLC
TASK T1 (INTERVAL := T#10ms, PRIORITY := 1);
TASK T2 (INTERVAL := T#30ms, PRIORITY := 2);
PROGRAM F WITH T1 : Fast;
PROGRAM S WITH T2 : Slow;
END_RESOURCE
END_CONFIGURATION
"""
PLANT = """PROGRAM Plant
VAR_INPUT u : LREAL; push : LREAL; END_VAR
VAR_OUTPUT x : LREAL := 1.0; on : BOOL; END_VAR
VAR steps : UDINT; END_VAR
steps := steps + 1;
x := x + 1.0 + push;
on := steps > 3;
END_PROGRAM
"""
PYTHON = """class Plant:
    def __init__(self):
        self.x, self.push, self.steps = 1.0, 0.0, 0
    def step(self, outputs, dt_s):
        if dt_s:
            self.steps += 1
            self.x += 1.0 + self.push
        return {"x": self.x, "on": self.steps > 3}
"""
WATCHED = "[x, y, b, q, F.n, S.n, total, plant.x]"


def run(folder: Path, plant: str, more: str = "", period: str = "", wire: str = "") -> Simulated:
    (folder / "p.st").write_text(PROGRAM)
    (folder / "plant.st").write_text(PLANT)
    (folder / "plant.py").write_text(PYTHON)
    kind = "source: plant.st" if plant == "st" else "python: plant.py:Plant"
    (folder / "project.yaml").write_text(
        f"name: t\nsources: [p.st]\nprogram: F\nduration: 100ms\nplant: {{{kind}{period}}}\n"
        "wiring:\n  inputs:\n"
        f"    - {{from: x, to: x, quality: q{wire}}}\n    - {{from: on, to: b}}\n"
        "  outputs:\n    - {from: y, to: u}\n"
        f"{more}checks:\n  - {{expect: never, variable: y, above: 30000}}\n"
        f"plots:\n  - {{title: all, variables: {WATCHED}}}\n"
    )
    return simulate(open_project(folder / "project.yaml"))


def column(done: Simulated, path: str) -> list[float]:
    return list(done.run.samples.values[path])


@pytest.mark.parametrize("plant", ["st", "python"])
def test_inputs_tasks_outputs_and_plant_take_turns_as_in_a_plant(tmp_path: Path, plant: str) -> None:
    done = run(tmp_path, plant)
    assert done.run.fault is None
    assert column(done, "plant.x") == [1.0 + k for k in range(11)]
    assert column(done, "x") == [1 + k for k in range(11)]  # the scan at k * 10 ms sees the plant of that moment
    assert column(done, "y") == [2 * (1 + k) for k in range(11)]
    assert column(done, "b") == [float(k > 3) for k in range(11)]
    assert column(done, "F.n") == [1 + k for k in range(11)]
    assert column(done, "S.n") == [1 + k // 3 for k in range(11)]
    assert column(done, "total") == [sum(range(1, 2 + k // 3)) for k in range(11)]
    assert column(done, "q") == [1.0] * 11


@pytest.mark.parametrize("plant", ["st", "python"])
def test_a_slow_plant_moves_only_in_its_own_period(tmp_path: Path, plant: str) -> None:
    done = run(tmp_path, plant, period=", period: 20ms")
    assert column(done, "x") == [1 + k // 2 for k in range(11)]


@pytest.mark.parametrize("plant", ["st", "python"])
def test_a_plant_quicker_than_the_scan_moves_between_scans(tmp_path: Path, plant: str) -> None:
    done = run(tmp_path, plant, period=", period: 5ms")
    assert done.run.tick_ns == 5_000_000
    assert column(done, "x") == [1 + 2 * k for k in range(11)]


def test_set_happens_before_the_scan_of_its_time(tmp_path: Path) -> None:
    done = run(tmp_path, "st", "stimuli:\n  - {at: 50ms, set: gain, to: 5}\n")
    assert column(done, "y") == [(2 if k < 5 else 5) * (1 + k) for k in range(11)]


@pytest.mark.parametrize("plant", ["st", "python"])
def test_a_ramp_goes_straight_and_stays(tmp_path: Path, plant: str) -> None:
    done = run(tmp_path, plant, "stimuli:\n  - {at: 20ms, ramp: plant.push, from: 0, to: 4, over: 40ms}\n")
    push = [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 4.0]
    wanted = [1.0]
    for p in push:
        wanted.append(wanted[-1] + 1.0 + p)
    assert column(done, "plant.x") == wanted


@pytest.mark.parametrize(
    ("fault", "wire", "shown", "quality"),
    [
        ("kind: stuck", "", 3, 1),
        ("kind: value, value: 77", "", 77, 1),
        ("kind: bad", "", 3, 3),
        ("kind: bad", ", stale: zero", 0, 3),
        ("kind: bad", ", stale: substitute, substitute: -9", -9, 3),
    ],
)
def test_a_broken_sensor_shows_what_the_scan_host_would_give(
    tmp_path: Path, fault: str, wire: str, shown: int, quality: int
) -> None:
    done = run(tmp_path, "st", f"stimuli:\n  - {{at: 30ms, fault: x, {fault}, for: 40ms}}\n", wire=wire)
    assert column(done, "x") == [1, 2, 3, *[shown] * 4, 8, 9, 10, 11]
    assert column(done, "q") == [1, 1, 1, *[quality] * 4, 1, 1, 1, 1]


def test_a_drifting_sensor_drifts_from_the_truth(tmp_path: Path) -> None:
    done = run(tmp_path, "st", "stimuli:\n  - {at: 30ms, fault: x, kind: drift, rate: 100, for: 40ms}\n")
    assert column(done, "x") == [1, 2, 3, 4, 6, 8, 10, 8, 9, 10, 11]


def test_a_converter_rounds_and_stops_at_the_limits_of_its_type(tmp_path: Path) -> None:
    done = run(tmp_path, "st", wire=", scale: 0.5, offset: 0.0")
    assert column(done, "x") == [0, 1, 2, 2, 2, 3, 4, 4, 4, 5, 6]  # half to even
    full = run(tmp_path, "st", wire=", scale: -1e9")
    assert set(column(full, "x")) == {-32768.0}


def test_a_plant_whose_code_fails_ends_the_simulation_with_its_words(tmp_path: Path) -> None:
    broken = PYTHON.replace("self.steps += 1", "self.steps += 1 if self.steps < 5 else 'burst'")
    (tmp_path / "broken.py").write_text(broken)
    run(tmp_path, "python")
    project = tmp_path / "project.yaml"
    project.write_text(project.read_text().replace("plant.py", "broken.py"))
    done = simulate(open_project(project))
    assert done.run.fault is not None
    assert "TypeError" in str(done.run.fault["message"])
    assert done.report["passed"] is False


def test_an_input_that_the_plant_drives_cannot_be_set(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="gets its value from the plant"):
        run(tmp_path, "st", "stimuli:\n  - {at: 0s, set: x, to: 5}\n")
