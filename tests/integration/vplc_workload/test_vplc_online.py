"""A newer release's program takes over from the one that runs: the loop goes on, or the old one does."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from manifests.errors import MachineError
from manifests.messages import Change, Changed
from tests.integration.vplc_workload.test_vplc_pair import Pair, group_of, pair
from tests.integration.vplc_workload.vplc_plant import GRANTS, VplcPlant, plant, until
from tests.support.workload_process import ROOT
from vplc.scan import change as changes
from vplc.scan.access import Access
from vplc.scan.errors import ScanError
from vplc.scan.watch import Watcher
from workloads.vplc import online

pytestmark = [pytest.mark.peer, pytest.mark.timeout(240)]

__all__ = ["pair"]  # the fixture of two at one tank

MARKED = ("  scans : UDINT;\n", "  scans : UDINT;\n  marked : INT := 7;\n")


def release_of(packed: Path, folder: Path, name: str, *edits: tuple[str, str], **control: Any) -> Path:
    """Another version of the program, laid beside the run context as the agent does it."""
    out = folder / "run" / "programs" / name
    shutil.copytree(packed, out)
    source = out / "source/tank.st"
    text = source.read_text()
    for before, after in edits:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    source.write_text(text)
    line = [sys.executable, "-m", "vplc", "build", str(source), "-o", str(out / "program.so"), "--target", "x86-64"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads((out / "control.json").read_text())
    (out / "control.json").write_text(json.dumps(said | control))
    return out


@pytest.fixture
async def tank(tmp_path: Path, packed: Path) -> AsyncIterator[VplcPlant]:
    async with plant(tmp_path) as made:
        made.write_context(release="sha256:old")
        await made.start(packed)
        await made.heard("Running", "Ok")
        yield made


async def change(tank: VplcPlant, name: str) -> Changed:
    """As the agent asks: with the run context as it will be."""
    context = json.loads((tank.run / "context.json").read_text())
    context |= {"version": "0.2.0", "release": f"sha256:{name}", "program": name}
    count = len(tank.bus.verdicts)
    tank.bus.say(Change(release=f"sha256:{name}", context=json.dumps(context).encode()))
    await tank.bus.until(lambda: len(tank.bus.verdicts) > count, 60)
    return tank.bus.verdicts[-1]


def value(tank: VplcPlant, path: str) -> Any:
    watcher = Watcher(tank.shared, [path])
    try:
        return watcher.ask().values[path]
    finally:
        watcher.close()


def is_marked(tank: VplcPlant) -> bool:
    """Also while the host that is asked comes and goes."""
    try:
        return bool(value(tank, "Tank.marked") == 7)
    except (ScanError, KeyError):
        return False


async def test_a_new_program_takes_over_with_the_values_of_the_old_and_outlives_all_around_it(
    tank: VplcPlant, packed: Path, tmp_path: Path
) -> None:
    await asyncio.to_thread(release_of, packed, tmp_path, "new", MARKED)
    with Access(tank.shared) as access:
        access.write({"Tank.setpoint": 1111.0})
    before, host = value(tank, "Tank.scans"), tank.children()["host"].pid
    verdict = await change(tank, "new")
    assert (verdict.taken, verdict.reason) == (True, "")
    assert verdict.report == ("Tank.marked is new: it begins with its initial value",)
    assert value(tank, "Tank.scans") > before
    assert (value(tank, "Tank.setpoint"), value(tank, "Tank.marked")) == (1111.0, 7)
    await tank.outputs_move()
    assert tank.children()["host"].pid == host
    assert tank.tank_says()[8] == 0  # the fail-safe never struck

    # The telemetry began anew with the new program; what is asked again is harmless, and a host that dies comes back
    # with the program that took over.
    await until("new telemetry", lambda: tank.children()["telemetry"].restarts == 1)
    count = len(tank.bus.heartbeats)
    await tank.bus.until(lambda: len(tank.bus.hellos) >= 2)
    await tank.bus.until(lambda: any("scans" in heartbeat.measures for heartbeat in tank.bus.heartbeats[count:]))
    assert value(tank, "Tank.setpoint") == 1111.0
    assert (await change(tank, "new")).taken
    await tank.kill("host")
    await until("the host again", lambda: tank.children()["host"].pid not in (0, host) and is_marked(tank))

    # As after a power cut: the context names the program, and the instance starts with it.
    [process] = tank.processes
    process.terminate()
    await asyncio.wait_for(process.wait(), 15)
    for path in tank.shared.iterdir():
        path.unlink()
    tank.write_context(version="0.2.0", release="sha256:new", program="new")
    await tank.start(packed)
    await until("the new program", lambda: is_marked(tank))


async def test_what_forbids_the_change_is_told_with_all_of_it_and_the_old_program_goes_on(
    tank: VplcPlant, packed: Path, tmp_path: Path
) -> None:
    said = json.loads((packed / "control.json").read_text())
    said["scan"]["drivers"]["remote_io"]["period_ms"] = 50
    said["servers"]["hmi"]["port"] = 1503
    typed = ("  scans : UDINT;\n", "  scans : ULINT;\n")
    await asyncio.to_thread(release_of, packed, tmp_path, "typed", typed)
    await asyncio.to_thread(release_of, packed, tmp_path, "other", scan=said["scan"], servers=said["servers"])
    host = tank.children()["host"].pid

    verdict = await change(tank, "typed")
    assert not verdict.taken
    assert not verdict.idle
    assert "Tank.scans is UDINT and would become ULINT" in verdict.reason
    assert "rename one of them" in verdict.reason

    verdict = await change(tank, "other")
    assert "drivers.remote_io.period_ms" in verdict.reason
    assert "is 20 and would become 50" in verdict.reason
    assert "server.hmi" in verdict.reason
    assert "without control.onlineChange" in verdict.reason

    tank.write_context(writes=[GRANTS[0] | {"points": ["coil 0-2"]}])
    verdict = await change(tank, "typed")
    assert "holding 0" in verdict.reason  # no release drives what it was not granted

    assert tank.children()["host"].pid == host
    await tank.outputs_move()


async def test_a_program_that_faults_in_its_first_scans_is_taken_back_and_not_tried_again(
    tank: VplcPlant, packed: Path, tmp_path: Path
) -> None:
    begin = ("  scans := scans + 1;\n", "  scans := scans + 1;\n  marked := 100 / (marked - marked);\n")
    await asyncio.to_thread(release_of, packed, tmp_path, "bad", MARKED, begin)
    verdict = await change(tank, "bad")
    assert not verdict.taken
    assert "division by zero" in verdict.reason
    await tank.outputs_move()
    assert tank.tank_says()[8] == 0
    found = tank.status()
    assert found is not None
    assert (found.rollbacks, found.version) == (1, 1)

    assert (await change(tank, "bad")).reason == verdict.reason
    found = tank.status()
    assert found is not None
    assert found.rollbacks == 1
    entries = [json.loads(line) for line in (tank.shared / "journal").read_text().splitlines()]
    assert [(e["who"], e["what"]) for e in entries] == [("centre", "online change failed")]


async def test_whoever_did_not_wait_for_the_end_of_a_trial_learns_it_later(
    tank: VplcPlant, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_TIMEOUT_S", 0.3)  # as a trial of 100 slow scans is to 30 s
    await asyncio.to_thread(release_of, packed, tmp_path, "new", MARKED)
    begin = ("  scans := scans + 1;\n", "  scans := scans + 1;\n  marked := 100 / (marked - marked);\n")
    await asyncio.to_thread(release_of, packed, tmp_path, "bad", MARKED, begin)

    async def ask(name: str) -> Changed:
        context = json.loads((tank.run / "context.json").read_text())
        context |= {"version": "0.2.0", "release": f"sha256:{name}", "program": name}
        asked = Change(release=f"sha256:{name}", context=json.dumps(context).encode())
        monkeypatch.setenv("VPLC_SCAN_BIN", str(packed.parent / "native"))
        return await asyncio.to_thread(online.take_over, asked, tank.run, tank.shared)

    with pytest.raises(MachineError, match="no verdict"):
        await ask("new")
    with pytest.raises(MachineError, match="on trial"):
        await ask("new")
    await until("the end of the trial", lambda: not getattr(tank.status(), "on_trial", 1))
    assert (await ask("new")).taken
    found = tank.status()
    assert found is not None
    assert found.version == 2  # changed once

    monkeypatch.setattr(changes, "_TIMEOUT_S", 0.0)
    with pytest.raises(MachineError):
        await ask("bad")
    await until("the way back", lambda: getattr(tank.status(), "rollbacks", 0) == 1)
    assert "division by zero" in (await ask("bad")).reason
    found = tank.status()
    assert found is not None
    assert (found.version, found.rollbacks) == (2, 1)


async def test_the_same_program_with_another_limit_is_another_release(
    tank: VplcPlant, packed: Path, tmp_path: Path
) -> None:
    said = json.loads((packed / "control.json").read_text())
    said["scan"]["tasks"]["Fast"]["watchdog_ms"] = 40
    await asyncio.to_thread(shutil.copytree, packed, tmp_path / "run/programs/strict")
    (tmp_path / "run/programs/strict/control.json").write_text(json.dumps(said))
    assert (await change(tank, "strict")).taken
    assert json.loads((tank.shared / "scan.json").read_text())["tasks"]["Fast"]["watchdog_ms"] == 40
    found = tank.status()
    assert found is not None
    assert found.version == 2


async def test_an_instance_that_scans_nothing_says_so(tank: VplcPlant, packed: Path, tmp_path: Path) -> None:
    await asyncio.to_thread(release_of, packed, tmp_path, "new", MARKED)
    (tank.shared / "scan.json").write_text("{}")
    await tank.kill("host")
    await until("no host", lambda: tank.status() is None or not tank.scans())
    verdict = await change(tank, "new")
    assert (verdict.taken, verdict.idle) == (False, True)


async def test_of_a_pair_each_takes_it_over_and_whoever_is_left_goes_on_with_it(
    pair: Pair, packed: Path, tmp_path: Path
) -> None:
    await pair.start(packed)
    made = await asyncio.to_thread(release_of, packed, tmp_path / "a", "new", MARKED)
    await asyncio.to_thread(shutil.copytree, made, tmp_path / "b/run/programs/new")
    for name in ("a", "b"):
        verdict = await change(pair.both[name], "new")
        assert (name, verdict.taken, verdict.reason) == (name, True, "")
    await until("a ready pair", pair.ready)
    assert pair.leader() == "a"
    before = value(pair.both["a"], "Tank.scans")
    [process] = pair.both["a"].processes
    group_of(process)
    await process.wait()
    await until("the other to lead", lambda: pair.leads("b"))
    assert value(pair.both["b"], "Tank.scans") >= before
    assert value(pair.both["b"], "Tank.marked") == 7
    await pair.drives()
