"""Online change of a running program: values carried, outputs undisturbed, bad versions taken back or refused."""

from __future__ import annotations

import signal

import pytest

from tests.integration.vplc_scan.scan_site import Site, compile_st, until
from vplc.scan import retain, watch
from vplc.scan.change import change
from vplc.scan.errors import Refused
from vplc.scan.image import Quality

# {more} moves the others; {body} is what changes.
TEXT = """PROGRAM Tank
VAR
  {more}
  n : DINT; total : LINT; delay : TON; list : ARRAY[1..3] OF INT := [1, 2, 3];
  go AT %IX0.0 : BOOL; alive AT %QX0.0 : BOOL; count AT %QD1 : DINT;
END_VAR
VAR RETAIN kept : DINT; {retained} END_VAR
n := n + 1;
kept := kept + 1;
count := n;
alive := TRUE;
delay(IN := TRUE, PT := T#1h);
list[2] := 77;
{body}
END_PROGRAM
"""
DRIVERS = {
    "io": {
        "inputs": [{"name": "go", "address": "%IX0.0"}],
        "outputs": [
            {"name": "alive", "address": "%QX0.0", "safe": False},
            {"name": "count", "address": "%QD1", "safe": -1},
        ],
    }
}
RETAIN = {"folder": "kept", "interval_ms": 50}


def configure(site: Site, more: str = "", body: str = "", retained: str = "") -> None:
    library = compile_st(site.folder, TEXT.format(more=more, body=body, retained=retained))
    site.configure(library, drivers=DRIVERS, retain=RETAIN)


def test_a_new_version_takes_over_with_all_values_and_a_watcher_follows(site: Site) -> None:
    configure(site)
    process = site.start()
    io = site.driver()
    watcher = watch.Watcher(site.run, ["Tank.n", "Tank.list", "Tank.delay.ET"])
    until("some scans", lambda: watcher.ask().values["Tank.n"] > 30)  # type: ignore[operator]
    before = watcher.ask()
    configure(site, "first : LREAL := 0.5;", "total := total + 1000;", "another : REAL := 1.5;")
    verdict = change(site.run, site.folder / "scan.json", trial_scans=5)
    assert verdict.taken_over
    assert verdict.version == 2
    assert "Tank.first is new: it begins with its initial value" in verdict.report
    after = watcher.ask()
    assert after.values["Tank.n"] > before.values["Tank.n"]  # type: ignore[operator]
    assert after.time_ns // 10_000_000 + 1 == int(str(after.values["Tank.n"])) + site.now().tasks[0].missed
    assert after.values["Tank.list"] == [1, 77, 3]
    assert after.values["Tank.delay.ET"] > before.values["Tank.delay.ET"]  # type: ignore[operator]
    fresh = watch.Watcher(site.run, ["Tank.first", "Tank.total"])
    until("the new code", lambda: fresh.ask().values["Tank.total"] >= 3000)  # type: ignore[operator]
    assert fresh.ask().values["Tank.first"] == 0.5
    assert io.read()["alive"].quality is Quality.GOOD
    assert site.now().healthy

    def both() -> bool:
        files = [site.folder / "kept" / name for name in retain.FILES]
        found = retain.newest([f.read_bytes() for f in files if f.exists()])
        return found is not None and set(found.values) == {"Tank.kept", "Tank.another"}

    until("a set of the new version", both)
    for one in (watcher, fresh):
        one.close()
    site.stop(process)


def test_a_version_that_faults_is_taken_back_and_the_outputs_do_not_notice(site: Site) -> None:
    configure(site)
    site.start()
    io = site.driver()
    until("some scans", lambda: int(str(io.read()["count"].value)) > 10)
    configure(site, "zero : DINT; first : LREAL;", "IF n MOD 7 = 0 THEN total := 1 / zero; END_IF;")
    seen = []
    verdict = change(site.run, site.folder / "scan.json")
    seen.append(io.read())
    assert not verdict.taken_over
    assert verdict.version == 1
    assert "version 2 rolled back: Tank, line 14: division by zero" in verdict.reason
    found = site.now()
    assert found.healthy
    assert (found.rollbacks, found.version) == (1, 1)
    count = int(str(io.read()["count"].value))
    until("more scans", lambda: int(str(io.read()["count"].value)) > count + 5)
    seen.append(io.read())
    assert all(s["alive"].value is True and s["alive"].quality is Quality.GOOD for s in seen)
    configure(site, "first : LREAL;", "total := 5;")
    assert change(site.run, site.folder / "scan.json", trial_scans=3).version == 3


def test_a_program_in_fault_is_repaired_by_a_change(site: Site) -> None:
    configure(site, "zero : DINT;", "IF go THEN total := 1 / zero; END_IF;")
    site.start()
    io = site.driver()
    io.write({"go": True})
    until("the fault", lambda: site.now().tasks[0].state == "fault")
    configure(site, "zero : DINT;", "IF go AND zero <> 0 THEN total := 1 / zero; END_IF;")
    assert change(site.run, site.folder / "scan.json", trial_scans=3).taken_over
    assert site.now().healthy
    until("the output", lambda: io.read()["alive"].quality is Quality.GOOD)


@pytest.mark.parametrize("mistake", ["types", "channels", "tasks", "layout"])
def test_a_change_that_is_not_safe_is_refused_with_a_list_and_nothing_changes(site: Site, mistake: str) -> None:
    configure(site)
    process = site.start()
    files = sorted(p.name for p in site.run.iterdir())
    library = site.folder / "program.so"
    expected = ""
    if mistake == "types":
        text = TEXT.replace("n : DINT; total : LINT", "n : LINT; total : LREAL").replace("count := n", "count := 1")
        compile_st(site.folder, text.format(more="", body="", retained=""))
        expected = "Tank.n is DINT and would become LINT(.|\n)*Tank.total is LINT and would become LREAL"
    elif mistake == "channels":
        site.configure(library, drivers={}, retain=RETAIN)
        expected = "drivers or channels differ"
    elif mistake == "tasks":
        site.configure(library, drivers=DRIVERS, interval_ms=20)
        expected = "tasks, intervals or priorities differ"
    else:
        library.with_suffix(".json").write_text("{}")
        expected = "format None"
    with pytest.raises(Refused, match=expected):
        change(site.run, site.folder / "scan.json")
    assert sorted(p.name for p in site.run.iterdir()) == files
    assert site.now().version == 1
    assert site.now().healthy
    assert process.poll() is None


def test_a_build_that_overwrites_the_library_does_not_touch_the_running_program(site: Site) -> None:
    configure(site)
    process = site.start()
    (site.folder / "program.so").write_bytes(b"")
    seen = site.now().tasks[0].scans
    until("more scans", lambda: site.now().tasks[0].scans > seen + 10)
    process.send_signal(signal.SIGUSR1)  # asks for a change although there is none
    until("the refusal", lambda: site.now().refusals == 1)
    assert site.now().healthy
