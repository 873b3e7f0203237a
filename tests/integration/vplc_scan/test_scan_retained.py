"""Retained values through kill -9, program versions, warm and cold starts, and files damaged at every byte."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from tests.integration.vplc_scan.scan_site import Site, compile_st, until
from vplc.scan import retain, watch

FIRST = """PROGRAM Count
VAR before : LINT; END_VAR
VAR RETAIN
  n : DINT; name : STRING[8] := 'one'; flag AT %MX0.3 : BOOL; timer : TON; kind : INT := 5; old : REAL := 2.5;
END_VAR
VAR volatile : DINT; END_VAR
n := n + 1;
volatile := volatile + 1;
flag := TRUE;
name := 'kept';
timer(IN := TRUE, PT := T#1h);
END_PROGRAM
"""
# Moved, one type changed, one gone and one renamed.
SECOND = """PROGRAM Count
VAR RETAIN
  fresh : LREAL := 1.5; kind : DINT := 5; timer : TON; name : STRING[8] := 'two'; older : REAL; n : DINT;
  flag AT %MX2.0 : BOOL;
END_VAR
VAR volatile : DINT; END_VAR
volatile := volatile + 1;
END_PROGRAM
"""
RETAIN = {"folder": "kept", "interval_ms": 50}


def values(site: Site, *paths: str) -> dict[str, Any]:
    watcher = watch.Watcher(site.run, [f"Count.{p}" for p in paths])
    found = {k.removeprefix("Count."): v for k, v in watcher.ask().values.items()}
    watcher.close()
    return found


def saved(site: Site) -> retain.Saved | None:
    folder = site.folder / "kept"
    return retain.newest([(folder / n).read_bytes() if (folder / n).exists() else b"" for n in retain.FILES])


def number(found: retain.Saved) -> int:
    return int.from_bytes(found.values["Count.n"].data, "little")


def test_a_warm_start_after_kill_9_goes_on_from_the_last_saved_set(site: Site) -> None:
    site.configure(compile_st(site.folder, FIRST), retain=RETAIN)
    process = site.start()
    until("two saves", lambda: site.now().retain_saves >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    last = saved(site)
    assert last is not None
    assert number(last) > 0
    site.start()
    found = values(site, "n", "volatile", "name", "timer.ET")
    assert found["n"] == number(last) + found["volatile"]
    assert found["name"] == "kept"
    assert found["timer.ET"] >= last.scan_time_ns  # a timer goes on: scan time continues too
    assert site.now().restored == len(last.values)
    assert site.now().alarms == ()


def test_a_stop_saves_the_last_scan(site: Site) -> None:
    site.configure(compile_st(site.folder, FIRST), retain={"folder": "kept", "interval_ms": 3_600_000})
    process = site.start()
    site.stop(process)
    last = saved(site)
    assert last is not None
    assert number(last) == site.now().tasks[0].scans


def test_a_cold_start_begins_anew(site: Site) -> None:
    site.configure(compile_st(site.folder, FIRST), retain=RETAIN)
    site.stop(site.start())
    site.start("--cold")
    found = values(site, "n", "volatile")
    assert found["n"] == found["volatile"]
    assert site.now().restored == 0


def test_another_program_version_takes_values_by_path_and_reports_the_rest(site: Site) -> None:
    site.configure(compile_st(site.folder, FIRST), retain=RETAIN)
    site.stop(site.start())
    last = saved(site)
    assert last is not None
    site.configure(compile_st(site.folder, SECOND), retain=RETAIN, renamed={"Count.old": "Count.older"})
    process = site.start("--json")
    found = values(site, "n", "name", "flag", "fresh", "kind", "older")
    expected = {"n": number(last), "name": "kept", "flag": True, "fresh": 1.5, "kind": 5, "older": 2.5}
    assert found == expected
    assert any("did not return" in a for a in site.now().alarms)
    site.stop(process)
    assert process.stdout is not None
    report = json.loads(process.stdout.read())["not_restored"]
    assert sorted(line.split(" ")[0] for line in report) == ["Count.fresh", "Count.kind"]


def test_files_of_the_host_damaged_at_any_byte_leave_the_other_set(site: Site) -> None:
    site.configure(compile_st(site.folder, FIRST), retain=RETAIN)
    process = site.start()
    until("two saves", lambda: site.now().retain_saves >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    files = [(site.folder / "kept" / n).read_bytes() for n in retain.FILES]
    sets = [retain.read_set(f) for f in files]
    assert sets[0] is not None
    assert sets[1] is not None
    newer = 0 if sets[0].sequence > sets[1].sequence else 1
    older = sets[1 - newer]
    assert older is not None
    whole, other = files[newer], files[1 - newer]
    for at in range(len(whole)):
        for damaged in (whole[:at], other[:at] + whole[at:], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            found = retain.newest([damaged, other])
            assert found is not None
            assert found.sequence == older.sequence or damaged == whole, at
            assert found.values == older.values or damaged == whole, at


def test_without_a_whole_set_the_program_starts_anew_with_an_alarm(site: Site) -> None:
    site.configure(compile_st(site.folder, FIRST), retain=RETAIN)
    site.stop(site.start())
    for name in retain.FILES:
        path = site.folder / "kept" / name
        if path.exists():
            path.write_bytes(path.read_bytes()[:-1])
    site.start()
    assert site.now().restored == 0
    assert "no retained set is whole" in "\n".join(site.now().alarms)


def test_a_disk_that_refuses_is_an_alarm_and_the_scan_goes_on(site: Site) -> None:
    site.configure(compile_st(site.folder, FIRST), retain=RETAIN)
    folder: Path = site.folder / "kept"
    (folder / "retain.b").mkdir(parents=True)
    process = site.launch()
    _, said = process.communicate()
    assert process.returncode == 1
    assert "retained values cannot be read" in said
    (folder / "retain.b").rmdir()
    process = site.start()
    until("a save", lambda: site.now().retain_saves >= 1)
    for name in retain.FILES:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()
    until("a failure", lambda: site.now().retain_failures >= 1)
    assert "cannot be saved" in "\n".join(site.now().alarms)
    seen = site.now().tasks[0].scans
    until("more scans", lambda: site.now().tasks[0].scans > seen)
    for name in retain.FILES:
        (folder / name).rmdir()
    saves = site.now().retain_saves
    until("a save again", lambda: site.now().retain_saves > saves)
