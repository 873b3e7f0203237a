"""``sluice machine``: a machine under watch from the command line, its evidence fetched and analysed.

The orchestrator is scripted, the answers come from the real analysis of simulated machines.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.console_backend.scene import SESSION
from tests.support.console_backend.serving import Far, serving

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    with serving() as running:
        yield running


def sluice(far: Far, *arguments: str, folder: Path = ROOT) -> tuple[int, str]:
    environment = {**os.environ, "SLUICE_SERVER": far.url, "SLUICE_TOKEN": SESSION, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from orchestrator.cli import main; main()", "machine", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=120)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_a_machine_is_told_with_its_alert_severity_indicators_and_remaining_time(far: Far) -> None:
    code, text = sluice(far, "show", "hamburg", "motors", "motor-1")
    assert code == 0, text
    assert "drive end: OR (unacknowledged)" in text
    assert "zone B" in text
    assert "ISO 10816-3:2009, 15 to 300 kW, rigid support: 1.4 / 2.8 / 4.5 mm/s" in text
    assert "unbalance" in text
    assert "times its baseline" in text


def test_a_kept_record_is_fetched_and_analysed(far: Far, tmp_path: Path) -> None:
    code, text = sluice(far, "evidence", "hamburg", "motors", "--json")
    assert code == 0, text
    known = json.loads(text)[0]["id"]
    code, text = sluice(far, "evidence", "hamburg", "motors", known, folder=tmp_path)
    assert code == 0, text
    [file] = tmp_path.iterdir()
    assert file.name == f"{known}.svb1"
    command = [sys.executable, "-m", "workloads.vibration", "analyse", str(file), "--bearing", "6205", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=True)
    answer = json.loads(done.stdout)
    assert answer["diagnosis"]["fault"] == "OR"
    assert (answer["rate_hz"], answer["rpm"], answer["unit"]) == (51_200.0, 1775.0, "g")


def test_a_record_that_is_not_kept_leaves_no_file_behind(far: Far, tmp_path: Path) -> None:
    code, text = sluice(far, "evidence", "hamburg", "motors", "no-such", folder=tmp_path)
    assert code != 0
    assert "no-such" in text
    assert list(tmp_path.iterdir()) == []


def test_an_alert_is_acknowledged_up_to_its_record_and_only_once(far: Far) -> None:
    code, text = sluice(far, "acknowledge", "hamburg", "motors", "motor-1", "--why", "bearing ordered")
    assert code == 0, text
    assert "drive end: OR" in text
    [call] = far.plants.parameters.calls
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", call.values["acknowledged"]["motor-1"])
    assert call.why == "bearing ordered"
    code, text = sluice(far, "acknowledge", "hamburg", "motors", "motor-1", "--why", "again")
    assert code != 0
    assert "no alert of motor-1 waits for somebody: acknowledged" in text
