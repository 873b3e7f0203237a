"""The host with real compiled programs: pacing, image, faults, and what it refuses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.vplc_scan.scan_site import Site, compile_st, until
from tests.unit.vplc_scan import scan_documents
from vplc.scan import access, build, plan, status, watch
from vplc.scan.errors import Refused
from vplc.scan.image import Quality

TANK = """PROGRAM Tank
VAR
  start AT %IX0.0 : BOOL;
  level AT %IW1 : INT;
  quality AT %IB4 : BYTE;
  pump AT %QX0.0 : BOOL;
  speed AT %QW1 : INT;
  n : DINT;
  delay : TON;
END_VAR
n := n + 1;
pump := start;
speed := 1000 / level;
delay(IN := TRUE, PT := T#1h);
END_PROGRAM
"""

DRIVERS = {
    "io": {
        "inputs": [
            {"name": "start", "variable": "Tank.start"},
            {"name": "level", "variable": "Tank.level", "max_age_ms": 150, "substitute": 7, "quality_address": "%IB4"},
        ],
        "outputs": [
            {"name": "pump", "variable": "Tank.pump", "safe": False},
            {"name": "speed", "variable": "Tank.speed", "safe": -1},
        ],
    }
}

TWO_TASKS = """PROGRAM Divide
VAR divisor AT %IW0 : INT; fine AT %QX0.0 : BOOL; n : DINT; END_VAR
fine := TRUE;
n := n + 1;
n := n + 10 / divisor;
END_PROGRAM
PROGRAM Count
VAR lamp AT %QX0.1 : BOOL; n : DINT; END_VAR
lamp := TRUE;
n := n + 1;
END_PROGRAM
CONFIGURATION C
RESOURCE R ON PLC
TASK Slow (INTERVAL := T#20ms, PRIORITY := 9);
TASK Fast (INTERVAL := T#5ms, PRIORITY := 1);
PROGRAM A WITH Fast : Divide;
PROGRAM B WITH Slow : Count;
END_RESOURCE
END_CONFIGURATION
"""


def test_the_structs_of_c_and_python_have_the_same_size(tmp_path: Path) -> None:
    names = {**plan.SIZES, **status.SIZES, **watch.SIZES, **access.SIZES}
    lines = "".join(f'printf("{n} %zu\\n", sizeof(struct {n}));' for n in names)
    (tmp_path / "sizes.c").write_text(
        f'#include <stdio.h>\n#include "scan.h"\nint main(void) {{ {lines} return 0; }}\n'
    )
    compiler = build.compiler()
    subprocess.run(
        [*compiler, "-I", str(build.NATIVE), "-o", str(tmp_path / "sizes"), str(tmp_path / "sizes.c")], check=True
    )
    printed = subprocess.run([str(tmp_path / "sizes")], capture_output=True, text=True, check=True).stdout.split()
    assert dict(zip(printed[::2], map(int, printed[1::2]), strict=True)) == names


def test_a_scan_reads_what_a_driver_wrote_and_the_driver_reads_the_outputs(site: Site) -> None:
    site.configure(compile_st(site.folder, TANK), drivers=DRIVERS)
    site.start()
    io = site.driver()
    io.write({"start": True, "level": 10})

    def driven() -> bool:
        io.write({"start": True, "level": 10})
        found = io.read()
        return found["pump"].value is True and found["speed"].value == 100

    until("the outputs", driven)
    assert io.read()["speed"].quality is Quality.GOOD
    assert io.effective() == {"start": Quality.GOOD, "level": Quality.GOOD}
    assert site.now().healthy


def test_a_silent_driver_gets_the_substitute_and_its_last_value_is_held_elsewhere(site: Site) -> None:
    site.configure(compile_st(site.folder, TANK), drivers=DRIVERS)
    site.start()
    watcher = watch.Watcher(site.run, ["Tank.start", "Tank.level", "Tank.quality"])
    first = watcher.ask().values
    assert first == {"Tank.start": False, "Tank.level": 7, "Tank.quality": Quality.NEVER}
    io = site.driver()

    def read() -> bool:
        io.write({"start": True, "level": 10})
        return watcher.ask().values == {"Tank.start": True, "Tank.level": 10, "Tank.quality": Quality.GOOD}

    until("the written values", read)
    stale = {"Tank.start": True, "Tank.level": 7, "Tank.quality": Quality.STALE}
    until("the substitute", lambda: watcher.ask().values == stale)
    io.spoil()
    until("the bad quality", lambda: io.effective()["start"] is Quality.BAD)
    assert watcher.ask().values["Tank.start"] is True
    watcher.close()


def test_a_stamp_from_another_clock_does_not_keep_a_value_fresh(site: Site) -> None:
    site.configure(compile_st(site.folder, TANK), drivers=DRIVERS)
    site.start()
    io = site.driver()
    io.write({"level": 10}, stamp_ns=2**62)
    until("the verdict", lambda: io.effective()["level"] is Quality.STALE)


def test_a_fault_names_program_pou_and_line_and_makes_only_its_outputs_safe(site: Site) -> None:
    rows = [{"name": "fine", "variable": "A.fine", "safe": False}, {"name": "lamp", "variable": "B.lamp"}]
    inputs = [{"name": "divisor", "variable": "A.divisor", "substitute": 1}]
    site.configure(compile_st(site.folder, TWO_TASKS), drivers={"io": {"inputs": inputs, "outputs": rows}})
    site.start()
    io = site.driver()
    until("both outputs", lambda: all(v.value is True for v in io.read().values()))
    io.write({"divisor": 0})
    until("the fault", lambda: site.now().tasks[0].state == "fault")
    fast, slow = site.now().tasks
    assert fast.name == "Fast"
    assert fast.fault is not None
    assert (fast.fault.kind, fast.fault.program, fast.fault.pou, fast.fault.line) == ("program", "A", "Divide", 5)
    assert "division by zero" in fast.fault.message
    assert slow.state == "run"

    def safe() -> bool:
        found = io.read()
        return found["fine"].value is False and found["fine"].quality is Quality.SAFE and found["lamp"].value is True

    until("the safe output", safe)
    before = slow.scans
    until("more scans of the other task", lambda: site.now().tasks[1].scans > before + 3)
    assert site.now().tasks[0].scans == fast.scans
    assert not site.now().healthy


def test_a_scan_beyond_its_watchdog_is_left_and_its_outputs_go_safe(site: Site) -> None:
    text = """PROGRAM Loop
VAR go AT %IX0.0 : BOOL; alive AT %QX0.0 : BOOL; i : DINT; sum : LREAL; END_VAR
alive := TRUE;
IF go THEN
  FOR i := 1 TO 40000000 DO sum := sum * 0.5 + SIN(sum); END_FOR;
END_IF;
END_PROGRAM
"""
    drivers = {
        "io": {
            "inputs": [{"name": "go", "address": "%IX0.0"}],
            "outputs": [{"name": "alive", "address": "%QX0.0", "safe": False}],
        }
    }
    site.configure(compile_st(site.folder, text), drivers=drivers, tasks={"Main": {"watchdog_ms": 25}})
    site.start()
    io = site.driver()
    until("the output", lambda: io.read()["alive"].value is True)
    io.write({"go": True})
    until("the fault", lambda: site.now().tasks[0].state == "fault")
    fault = site.now().tasks[0].fault
    assert fault is not None
    assert (fault.kind, fault.program) == ("watchdog", "Loop")
    until("the safe output", lambda: io.read()["alive"].quality is Quality.SAFE)
    assert io.read()["alive"].value is False
    seen = io.published()
    until("further publications", lambda: io.published() > seen + 3)


def test_periods_lost_while_frozen_are_counted_and_never_made_up_for(site: Site) -> None:
    site.configure(compile_st(site.folder, TANK), drivers=DRIVERS, interval_ms=5)
    process = site.start()
    watcher = watch.Watcher(site.run, ["Tank.n"])
    before = site.now().tasks[0].missed
    os.kill(process.pid, signal.SIGSTOP)
    frozen = site.now().heartbeat_age_ns
    until("some lost periods", lambda: site.now().heartbeat_age_ns > frozen + 300_000_000)
    os.kill(process.pid, signal.SIGCONT)
    until("a scan after the gap", lambda: site.now().tasks[0].missed > before)
    assert site.now().tasks[0].missed >= before + 50

    def account() -> bool:
        earlier = site.now().tasks[0].missed
        answer = watcher.ask()
        if site.now().tasks[0].missed != earlier:
            return False  # one more was lost in between: look again
        assert answer.time_ns // 5_000_000 + 1 == int(str(answer.values["Tank.n"])) + earlier
        return True

    until("a quiet moment", account)
    watcher.close()


def test_refused_privileges_are_alarms_and_the_scan_goes_on(site: Site) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("taking privileges away needs root and setpriv")
    site.configure(compile_st(site.folder, TANK), drivers=DRIVERS, core=1023)
    drop = ("prlimit", "--memlock=65536", "setpriv", "--bounding-set", "-sys_nice,-ipc_lock", "--")
    site.start(before=drop)
    found = site.now()
    text = "\n".join(found.alarms)
    for part in ("SCHED_FIFO 80 refused", "memory is not locked", "not pinned: core 1023"):
        assert part in text
    assert found.healthy
    assert (found.core, found.fifo_priority, found.memory_locked) == (None, None, False)


def test_a_second_host_in_the_folder_is_refused_and_the_first_goes_on(site: Site) -> None:
    site.configure(compile_st(site.folder, TANK), drivers=DRIVERS)
    process = site.start()
    plan_before = (site.run / "plan").read_bytes()
    site.configure(compile_st(site.folder, TANK), drivers={})
    second = site.launch()
    _, said = second.communicate()
    assert second.returncode == 1
    assert "another scan host runs here" in said
    assert (site.run / "plan").read_bytes() == plan_before
    native = [str(build.find(build.HOST)), str(site.run / "plan"), str(site.run)]
    done = subprocess.run(native, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "another scan host runs here" in done.stderr
    seen = site.now().tasks[0].scans
    until("more scans", lambda: site.now().tasks[0].scans > seen)
    assert site.now().pid == process.pid


@pytest.mark.parametrize("mistake", ["layout of another program", "changed layout", "another target", "no library"])
def test_a_library_that_does_not_fit_is_refused_with_what_and_where(site: Site, mistake: str) -> None:
    library = compile_st(site.folder, TANK)
    expected = {
        "layout of another program": "library and layout do not belong together; source:",
        "changed layout": "seal is broken",
        "another target": "the library is for aarch64, this host runs on x86-64",
        "no library": "cannot read the library",
    }[mistake]
    if mistake == "layout of another program":
        other = compile_st(site.folder, TWO_TASKS, "other")
        library.with_suffix(".json").write_bytes(other.with_suffix(".json").read_bytes())
    elif mistake == "changed layout":
        path = library.with_suffix(".json")
        path.write_text(path.read_text().replace('"state_size": ', '"state_size": 1'))
    elif mistake == "another target":
        pytest.importorskip("ziglang")
        compile_st(site.folder, TANK, "program", "aarch64")
    else:
        library.unlink()
    site.configure(library)
    process = site.launch()
    _, said = process.communicate()
    assert process.returncode == 1
    assert expected in said
    assert str(site.folder / "program") in said
    assert not list(site.run.iterdir())


def test_the_host_itself_refuses_a_pair_that_was_exchanged_behind_its_back(site: Site) -> None:
    site.configure(compile_st(site.folder, TANK))
    site.stop(site.start())
    compile_st(site.folder, TWO_TASKS)
    command = [str(build.find(build.HOST)), str(site.run / "plan"), str(site.run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "library and layout do not belong together" in done.stderr
    for data in (b"", b"VPLCPLN1" + bytes(400), (site.run / "plan").read_bytes()[:-1]):
        (site.run / "plan").write_bytes(data)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "no plan of this version" in done.stderr


@pytest.mark.parametrize("harm", ["*(volatile int *)8 = 1;", "__builtin_trap();"])
def test_code_that_the_processor_refuses_is_a_fault_and_not_the_end_of_the_host(site: Site, harm: str) -> None:
    import json

    document = scan_documents.document()
    (site.folder / "bad.json").write_text(json.dumps(document))
    (site.folder / "bad.c").write_text(
        f'const char vplc_abi[] = "{document["abi"]}";\n'
        "int vplc_init(char *s) { for (int i = 0; i < 256; i++) s[i] = 0; return 0; }\n"
        f"int vplc_run_P1(char *s, long now) {{ s[136] = 1; if (now > 100000000) {{ {harm} }} return 0; }}\n"
        "int vplc_run_P2(char *s, long now) { s[138] = 1; return 0; }\n"
    )
    shared = ["-w", "-O1", "-fPIC", "-shared", "-o", str(site.folder / "bad.so"), str(site.folder / "bad.c")]
    subprocess.run([*build.compiler(), *shared], check=True)
    rows = [{"name": "pump", "variable": "P1.pump", "safe": False}]
    site.configure(site.folder / "bad.so", drivers={"io": {"outputs": rows}})
    process = site.start()
    io = site.driver()
    until("the fault", lambda: site.now().tasks[0].state == "fault")
    fault = site.now().tasks[0].fault
    assert fault is not None
    assert (fault.kind, fault.program) == ("signal", "P1")
    until("the safe output", lambda: io.read()["pump"].quality is Quality.SAFE)
    seen = site.now().tasks[1].scans
    until("scans of the other task", lambda: site.now().tasks[1].scans > seen)
    site.stop(process)


def test_a_driver_name_belongs_to_one_process(site: Site) -> None:
    site.configure(compile_st(site.folder, TANK), drivers=DRIVERS)
    site.start()
    first = site.driver()
    with pytest.raises(Refused, match='another process is the driver "io"'):
        site.driver()
    first.close()
    site.driver()
    with pytest.raises(Refused, match='no driver "oi"'):
        site.driver("oi")


def test_stopping_makes_the_outputs_safe(site: Site) -> None:
    site.configure(compile_st(site.folder, TANK), drivers=DRIVERS)
    process = site.start()
    io = site.driver()
    until("the output", lambda: io.read()["speed"].value == 142)
    site.stop(process)
    found = io.read()
    assert (found["speed"].value, found["speed"].quality) == (-1, Quality.SAFE)
    assert site.now().phase == "stopped"
    assert not site.now().alive
