"""The example project: simulated, plotted and commissioned by the command line."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

import vplc
from vplc.simulate.report import passed

EXAMPLE = Path(vplc.__file__).parent / "examples" / "tank"


@pytest.fixture
def tank(tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "tank"))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "vplc", *words], capture_output=True, text=True, check=False)


def report(*words: str, code: int = 0) -> dict[str, Any]:
    done = run(*words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_example_holds_all_it_promises_and_says_the_same_every_time(tank: Path, tmp_path: Path) -> None:
    first = run("simulate", str(tank / "project.yaml"), "--json")
    assert first.returncode == 0, first.stdout
    elsewhere = shutil.copytree(EXAMPLE, tmp_path / "elsewhere")
    second = run("simulate", str(elsewhere / "project.yaml"), "--json")
    assert second.stdout == first.stdout
    made = json.loads(first.stdout)
    assert passed(made)
    assert made["ticks"] == 60_001
    hashes = {i["path"]: i["sha256"] for i in made["inputs"]}
    assert set(hashes) == {"project.yaml", "tank.st", "tank_plant.st"}
    assert hashes["tank.st"] == hashlib.sha256((tank / "tank.st").read_bytes()).hexdigest()


def test_the_same_physics_in_python_measures_the_same(tank: Path) -> None:
    in_st = report("simulate", str(tank / "project.yaml"))
    in_python = report("simulate", str(tank / "project_python.yaml"))
    for a, b in zip(in_st["checks"], in_python["checks"], strict=True):
        assert a["name"] == b["name"]
        for key, value in a["measured"].items():
            assert b["measured"][key] == pytest.approx(value, abs=1e-6), (a["name"], key)


@pytest.mark.parametrize(
    ("old", "new", "fails"),
    [
        ("gain : REAL := 0.5;", "gain : REAL := 0.02;", "first fill"),
        ("reset_time : TIME := T#25s;", "reset_time : TIME := T#1s;", "overshoot of the step"),
        ("interlock := hold.Q;", "interlock := FALSE;", "never spills"),
    ],
)
def test_a_worse_controller_fails_the_check_that_is_about_it(tank: Path, old: str, new: str, fails: str) -> None:
    change(tank / "tank.st", old, new)
    made = report("simulate", str(tank / "project.yaml"), code=1)
    assert not passed(made)
    assert fails in [c["name"] for c in made["checks"] if not c["passed"]]


def test_a_fault_of_the_program_ends_the_simulation_with_its_line(tank: Path) -> None:
    change(tank / "tank.st", "  scans := scans + 1;", "  scans := scans + 1 + 0 / (4000 - scans);")
    made = report("simulate", str(tank / "project.yaml"), code=1)
    assert made["fault"]["where"] == "program"
    assert made["fault"]["file"] == "tank.st"
    assert made["fault"]["time_s"] == 40.0
    assert "scans + 1 + 0 /" in (tank / "tank.st").read_text().splitlines()[made["fault"]["line"] - 1]
    assert not any(c["passed"] for c in made["checks"] if "ended after" in c["text"])


def test_plots_and_samples_are_written(tank: Path, tmp_path: Path) -> None:
    svg, page, table = tmp_path / "a.svg", tmp_path / "a.html", tmp_path / "a.csv"
    assert run("simulate", str(tank / "project.yaml"), "--plot", str(svg), "--csv", str(table)).returncode == 0
    assert run("simulate", str(tank / "project.yaml"), "--plot", str(page)).returncode == 0
    lines = ET.fromstring(svg.read_text()).findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 9
    assert "never spills" in page.read_text()
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60_001
    assert float(rows[0]["plant.level"]) == 600.0
    assert rows[36_001]["interlock"] == "1"


def test_every_wrong_name_is_told_with_its_line(tank: Path) -> None:
    change(tank / "project.yaml", "variables: [pump_speed]", "variables: [pump_sped]")
    change(tank / "project.yaml", "ramp: plant.valve", "ramp: plant.vlave")
    change(tank / "project.yaml", "set: setpoint, to: 1400", "set: setpoint, to: high")
    change(tank / "project.yaml", "from: inflow", "from: inflo")
    done = run("simulate", str(tank / "project.yaml"))
    assert done.returncode == 1
    for what in ('did you mean "pump_speed"', 'did you mean "valve"', "'high' is not a value of REAL", '"inflow"'):
        assert what in done.stderr, done.stderr
    lines = (tank / "project.yaml").read_text().splitlines()
    at = next(n for n, line in enumerate(lines, 1) if "set: setpoint" in line)
    assert f"project.yaml:{at} stimuli[0]" in done.stderr
    missing = run("simulate", str(tank / "nowhere.yaml"))
    assert missing.returncode == 1
    assert "cannot read the project" in missing.stderr


def test_commissioning_binds_tests_simulation_and_libraries_to_one_source(tank: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = report("commission", str(tank / "project.yaml"), "-o", str(out))
    assert passed(made)
    assert [b["target"] for b in made["builds"]] == ["x86-64", "aarch64"]
    for built in made["builds"]:
        assert hashlib.sha256((out / built["library"]).read_bytes()).hexdigest() == built["library_sha256"]
        layout = json.loads((out / built["layout"]).read_text())
        assert layout["source_sha256"] == made["source_sha256"] == made["simulation"]["source_sha256"]
    again = report("commission", str(tank / "project.yaml"), "-o", str(tmp_path / "again"))
    assert again == made


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tank_test.st", "ASSERT_EQ(tank.target, 1600.0);", "ASSERT_EQ(tank.target, 1601.0);"),
        ("project.yaml", "variable: plant.level, above: 1990", "variable: plant.level, above: 1800"),
    ],
    ids=["a failed unit test", "a failed check"],
)
def test_what_fails_is_not_built(tank: Path, tmp_path: Path, file: str, old: str, new: str) -> None:
    change(tank / file, old, new)
    made = report("commission", str(tank / "project.yaml"), "-o", str(tmp_path / "out"), code=1)
    assert not passed(made)
    assert made["builds"] == []
    assert not (tmp_path / "out").exists()


def test_a_project_without_unit_tests_is_not_commissioned(tank: Path) -> None:
    change(tank / "project.yaml", "tests: [tank_test.st]\n", "")
    done = run("commission", str(tank / "project.yaml"))
    assert done.returncode == 1
    assert "names no unit tests" in done.stderr
