"""Wrong programs and configurations: nobody can sign them; where one comes all the same, nothing that runs is lost."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.vplc_workload.conftest import DOCUMENT, pack
from tests.integration.vplc_workload.vplc_plant import VplcPlant, plant, until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def tank(tmp_path: Path) -> AsyncIterator[VplcPlant]:
    async with plant(tmp_path) as made:
        yield made


def document() -> dict[str, Any]:
    written: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
    written["project"] = str(DOCUMENT.with_name("project.yaml"))
    return written


def twice(wrong: dict[str, Any]) -> None:
    wrong["scan"]["drivers"]["remote_io"]["inputs"][1] |= {"address": "%IB0", "variable": None}
    del wrong["scan"]["drivers"]["remote_io"]["inputs"][1]["variable"]


def no_host(wrong: dict[str, Any]) -> None:
    del wrong["scan"]["drivers"]["remote_io"]["host"]


def no_range(wrong: dict[str, Any]) -> None:
    wrong["parameters"]["Tank.setpoint"] = {"minimum": 1}


def unknown_tag(wrong: dict[str, Any]) -> None:
    wrong["tags"][0]["variable"] = "Tank.levle"


def an_input_as_parameter(wrong: dict[str, Any]) -> None:
    wrong["parameters"]["Tank.level"] = {"minimum": 0, "maximum": 1}


def a_server_that_listens_nowhere(wrong: dict[str, Any]) -> None:
    wrong["servers"]["hmi"]["port"] = 70000


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (twice, "is mapped twice"),
        (no_host, "host"),
        (no_range, "a number needs minimum and maximum"),
        (unknown_tag, "Tank.level"),
        (an_input_as_parameter, "its driver would set it back"),
        (a_server_that_listens_nowhere, "port"),
    ],
)
def test_a_wrong_document_makes_no_program_and_keeps_the_one_before(
    tmp_path: Path, packed: Path, spoil: Callable[[dict[str, Any]], None], said: str
) -> None:
    out = tmp_path / "control" / "tank"
    shutil.copytree(packed, out)
    shutil.copytree(packed.parent / "native", out.parent / "native")
    before = sorted((path.name, path.read_bytes()) for path in out.rglob("*") if path.is_file())
    wrong = document()
    spoil(wrong)
    path = tmp_path / "control.yaml"
    path.write_text(yaml.safe_dump(wrong))
    done = pack(path, out)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted((path.name, path.read_bytes()) for path in out.rglob("*") if path.is_file()) == before


def test_a_program_that_does_not_compile_says_where(project: Path) -> None:
    source = project / "tank.st"
    source.write_text(source.read_text().replace("scans := scans + 1;", "scans := TRUE;"))
    done = pack(project / "control.yaml", project / "control" / "tank")
    assert done.returncode == 1
    assert re.search(r"tank\.st:\d+", done.stderr), done.stderr


def test_a_program_whose_unit_test_fails_is_not_packed(project: Path) -> None:
    tests = project / "tank_test.st"
    tests.write_text(
        tests.read_text().replace("ASSERT_NEAR(tank.pump.out, 25.0, 0.1)", "ASSERT_NEAR(tank.pump.out, 26.0, 0.1)")
    )
    done = pack(project / "control.yaml", project / "control" / "tank")
    assert done.returncode == 1
    assert "unit test 'a level below the set-point makes the pump run up along its ramp' failed" in done.stderr
    assert not (project / "control" / "tank").exists()


def test_a_program_whose_simulation_fails_is_not_packed(project: Path) -> None:
    written = project / "project.yaml"
    written.write_text(written.read_text().replace("from: 120s, within: 60s", "from: 120s, within: 1s"))
    done = pack(project / "control.yaml", project / "control" / "tank")
    assert done.returncode == 1
    assert "check 'set-point step'" in done.stderr
    assert not (project / "control" / "tank").exists()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the tank's project, to be spoilt."""
    return Path(shutil.copytree(DOCUMENT.parent, tmp_path / "tank"))


def another_machine(folder: Path) -> None:
    library = folder / "program.so"
    data = bytearray(library.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")  # e_machine of aarch64
    library.write_bytes(bytes(data))


def another_layout(folder: Path) -> None:
    layout = json.loads((folder / "program.json").read_text())
    layout["variables"][0]["offset"] += 8
    (folder / "program.json").write_text(json.dumps(layout))


@pytest.mark.parametrize(
    ("spoil", "said"), [(another_machine, "the library is for aarch64"), (another_layout, "its seal is broken")]
)
async def test_a_wrong_program_is_refused_at_start_and_the_old_one_runs_on(
    tank: VplcPlant, packed: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    await tank.start(packed)
    host = tank.children()["host"].pid
    wrong = tmp_path / "wrong" / "tank"
    shutil.copytree(packed, wrong)
    shutil.copytree(packed.parent / "native", wrong.parent / "native")
    spoil(wrong)
    await tank.start(wrong, wait=False)
    await tank.bus.until(lambda: any(h.reason == "BadConfig" and said in h.detail for h in tank.bus.heartbeats))
    scans = tank.scans()
    await until("more scans", lambda: tank.scans() > scans + 20)
    found = tank.status()
    assert found is not None
    assert found.pid == host


async def test_writes_that_nobody_granted_are_refused_before_anything_starts(tank: VplcPlant, packed: Path) -> None:
    tank.write_context(writes=[])
    await tank.start(packed, wait=False)
    heartbeat = await tank.heard("Failed", "BadConfig")
    assert "no grant to write modbus tank-io holding 0" in heartbeat.detail
    assert set(tank.children()) == {"telemetry"}
    assert tank.tank_says()[4:6] == [0, 0]


async def test_a_device_moved_to_another_name_has_no_grant(tank: VplcPlant, packed: Path) -> None:
    tank.config["drivers"] = {"remote_io": {"host": "press"}}
    tank.write_context()
    await tank.start(packed, wait=False)
    heartbeat = await tank.heard("Failed", "BadConfig")
    assert "no grant to write modbus press holding 0" in heartbeat.detail


async def test_a_corrected_configuration_is_taken_up_by_a_new_start(tank: VplcPlant, packed: Path) -> None:
    tank.config["parameters"] = {"Tank.setpoint": 5}
    tank.write_context()
    process = await tank.start(packed, wait=False)
    await tank.heard("Failed", "BadConfig")
    await tank.configure(parameters={"Tank.setpoint": 1000})
    assert await process.wait() == 0  # its agent, or the engine, starts it again
    await tank.start(packed)
    await tank.heard("Running", "Ok")
