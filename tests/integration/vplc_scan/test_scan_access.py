"""Writing and forcing through a real host: between two scans, whole or not at all, over an online change."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import threading

import pytest

from tests.integration.vplc_scan.scan_site import Site, compile_st, until
from vplc.scan import access, journal, variables, watch
from vplc.scan.change import change
from vplc.scan.errors import NotRunning, Refused
from vplc.scan.image import Quality
from vplc.scan.values import Json

TEXT = """VAR_GLOBAL CONSTANT limit : INT := 5; END_VAR
PROGRAM Tank
VAR
  {more}
  n : DINT; a : DINT; b : DINT; differ : DINT; copy : INT; name : STRING[8];
  list : ARRAY[1..3] OF INT; share : INT(0..100); zero : DINT;
  level AT %IW1 : INT; ready AT %IX0.0 : BOOL; spare AT %IX0.1 : BOOL;
  pump AT %QX0.0 : BOOL; speed AT %QW1 : INT; fault : BOOL;
END_VAR

n := n + 1;
IF a <> b THEN differ := differ + 1; END_IF;
copy := level;
pump := FALSE;
speed := 1;
IF fault THEN n := n / zero; END_IF;
{body}
END_PROGRAM
"""
DRIVERS = {
    "io": {
        "inputs": [{"name": "level", "address": "%IW1"}, {"name": "ready", "address": "%IX0.0"}],
        "outputs": [
            {"name": "pump", "address": "%QX0.0", "safe": False},
            {"name": "speed", "address": "%QW1", "safe": -1},
        ],
    }
}


def configure(site: Site, more: str = "", body: str = "", **rest: object) -> None:
    site.configure(compile_st(site.folder, TEXT.format(more=more, body=body)), drivers=DRIVERS, **rest)


def look(site: Site, *paths: str) -> dict[str, Json]:
    watcher = watch.Watcher(site.run, paths)
    try:
        return watcher.ask().values
    finally:
        watcher.close()


def test_all_values_of_one_call_arrive_between_the_same_two_scans(site: Site) -> None:
    configure(site, interval_ms=1)
    site.start()
    with access.Access(site.run) as door:
        for n in range(1, 300):
            door.write({"Tank.a": n, "Tank.b": n})
        door.write({"tank.LIST[2]": -7, "Tank.name": "north", "Tank.share": 100, "Tank.zero": 0})
    assert look(site, "Tank.a", "Tank.b", "Tank.differ", "Tank.list", "Tank.name", "Tank.list[2]") == {
        "Tank.a": 299, "Tank.b": 299, "Tank.differ": 0, "Tank.list": [0, -7, 0], "Tank.name": "north",
        "Tank.list[2]": -7,
    }  # fmt: skip
    assert site.now().healthy


def test_several_writers_take_turns_and_none_is_lost(site: Site) -> None:
    configure(site, interval_ms=1)
    site.start()

    def write(column: str) -> None:
        with access.Access(site.run) as door:
            for n in range(1, 101):
                door.write({f"Tank.{column}": n})

    writers = [threading.Thread(target=write, args=(c,)) for c in ("a", "b", "list[1]")]
    for w in writers:
        w.start()
    for w in writers:
        w.join()
    assert look(site, "Tank.a", "Tank.b", "Tank.list") == {"Tank.a": 100, "Tank.b": 100, "Tank.list": [100, 0, 0]}


def test_a_wrong_write_tells_every_mistake_and_writes_nothing(site: Site) -> None:
    configure(site)
    site.start()
    with access.Access(site.run) as door:
        door.force({"Tank.b": 4})
        with pytest.raises(Refused) as refused:
            door.write({"Tank.a": 5, "Tank.nn": 1, "limit": 6, "Tank.level": 7, "Tank.b": 3, "Tank.spare": True})
    said = str(refused.value)
    assert "Tank.nn: there is no such variable" in said
    assert "limit: is a CONSTANT" in said
    assert "Tank.level: is written by driver io (level) before each scan\n  hint: force it" in said
    assert "Tank.b: is forced (Tank.b)" in said
    assert len(refused.value.problems) == 4
    assert look(site, "Tank.a") == {"Tank.a": 0}


def test_a_forced_input_and_a_forced_output_hold_against_driver_and_program_until_they_are_let_go(site: Site) -> None:
    configure(site, interval_ms=2)
    site.start()
    io = site.driver()
    io.write({"level": 10, "ready": True})
    until("the input", lambda: look(site, "Tank.copy") == {"Tank.copy": 10})
    with access.Access(site.run, "anna") as door:
        door.force({"Tank.level": 55, "Tank.pump": True, "Tank.ready": False})
        assert door.forced() == {"Tank.level": 55, "Tank.pump": True, "Tank.ready": False}
        assert site.now().forces == 3
        until("the forced output", lambda: io.read()["pump"].value is True)
        for n in range(40):
            io.write({"level": n, "ready": True})
            assert look(site, "Tank.level", "Tank.copy", "Tank.ready", "Tank.pump") == {
                "Tank.level": 55, "Tank.copy": 55, "Tank.ready": False, "Tank.pump": True,
            }  # fmt: skip
            assert io.read()["pump"].value is True
        door.force({"Tank.level": 56})
        with pytest.raises(Refused, match=r"Tank\.speed: is not forced"):
            door.unforce(["Tank.speed"])
        door.unforce(["tank.PUMP"], who="bert")
        assert door.forced() == {"Tank.ready": False, "Tank.level": 56}
        until("the program's output", lambda: io.read()["pump"].value is False)
        door.unforce(None)
        assert door.forced() == {}
    until("the driver's input", lambda: look(site, "Tank.copy") == {"Tank.copy": 39})
    entries = journal.since(site.run, 0)
    rows = [(e["who"], e["what"], e["path"], e["value"], e["before"]) for e in entries]
    assert rows[0] == ("anna", "force", "Tank.level", 55, 10)
    assert rows[3] == ("anna", "force", "Tank.level", 56, 55)
    assert rows[4] == ("bert", "unforce", "Tank.pump", None, True)
    assert len(rows) == 7


def test_a_forced_output_in_fault_gets_its_safe_value(site: Site) -> None:
    configure(site)
    site.start()
    io = site.driver()
    with access.Access(site.run) as door:
        door.force({"Tank.speed": 99})
        until("the forced output", lambda: io.read()["speed"].value == 99)
        door.write({"Tank.fault": True})
    until("the safe output", lambda: io.read()["speed"].quality is Quality.SAFE)
    assert io.read()["speed"].value == -1


def test_forces_go_along_with_an_online_change_and_end_with_their_variable(site: Site) -> None:
    configure(site, "gone : INT;", interval_ms=2)
    site.start()
    io = site.driver()
    with access.Access(site.run) as door:
        door.force({"Tank.pump": True, "Tank.gone": 3, "Tank.list[3]": 8})
        until("the forced output", lambda: io.read()["pump"].value is True)
        configure(site, "first : LREAL; second : LINT;", "list[3] := 1;", interval_ms=2)
        verdict = change(site.run, site.folder / "scan.json", trial_scans=20)
        assert verdict.taken_over
        assert "Tank.gone was forced and ends: so does the force" in verdict.report
        assert door.forced() == {"Tank.pump": True, "Tank.list[3]": 8}
        assert look(site, "Tank.list", "Tank.pump") == {"Tank.list": [0, 0, 8], "Tank.pump": True}
        door.write({"Tank.second": 5})  # finds the variables of the new version
        configure(site, "zero2 : DINT;", "n := n / zero2;", interval_ms=2)
        assert not change(site.run, site.folder / "scan.json", trial_scans=20).taken_over
        assert door.forced() == {"Tank.pump": True, "Tank.list[3]": 8}
        assert look(site, "Tank.second", "Tank.list[3]") == {"Tank.second": 5, "Tank.list[3]": 8}
        assert io.read()["pump"].value is True
        door.unforce(None)
    assert [p.name for p in site.run.glob("forces.*")] == ["forces.3.json"]
    assert "Tank.gone" in {str(e["path"]) for e in journal.since(site.run, 0) if e["who"] == "online change"}


def test_forces_end_with_the_host(site: Site) -> None:
    configure(site)
    process = site.start()
    door = access.Access(site.run)
    door.force({"Tank.speed": 99})
    site.stop(process)
    with pytest.raises(NotRunning):
        door.write({"Tank.a": 1})
    site.start()
    assert door.forced() == {}
    door.write({"Tank.a": 1})
    door.close()


def test_garbage_in_the_shared_block_is_refused_and_never_leaves_the_state(site: Site) -> None:
    configure(site, interval_ms=1)
    site.start()
    wrong = [(2**31, 4, 0, 0), (0, 2**31, 0, 0), (0, 8, 32766, 0), (0, 4, 2**32 - 1, 0), (2**32 - 1, 1, 0, 1)]
    path = site.run / "access"
    with path.open("r+b") as block:
        number = 0
        for kind in (access._WRITE, access._FORCE, 77):
            for count, entries in [(1, [e]) for e in wrong] + [(2**32 - 1, []), (1025, [])]:
                number += 1
                block.seek(8)
                block.write(struct.pack("<6I", kind, 1, count, access.BYTES, 1, 9))
                for i, entry in enumerate(entries):
                    block.seek(40 + 16 * i)
                    block.write(struct.pack("<4I", *entry))
                block.seek(0)
                block.write(struct.pack("<I", number))
                block.flush()
                until("the answer", lambda n=number: struct.unpack_from("<2I", path.read_bytes())[1] == n)  # type: ignore[misc]
                assert struct.unpack_from("<I", path.read_bytes(), 28)[0] == access._INVALID
    assert site.now().healthy
    assert site.now().forces == 0


def test_a_writer_that_is_killed_at_any_moment_leaves_the_door_usable(site: Site) -> None:
    configure(site, interval_ms=1)
    site.start()
    text = f"""
from vplc.scan.access import Access
door = Access(Path({str(site.run)!r}))
print("open", flush=True)
n = 0
while True:
    n += 1
    door.force({{"Tank.a": n, "Tank.b": n}})
    door.unforce(["Tank.a"])
"""
    for kill in range(6):
        process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        seen = site.now().tasks[0].scans
        until("some requests", lambda s=seen, k=kill: site.now().tasks[0].scans > s + 20 + 3 * k)  # type: ignore[misc]
        process.kill()
        process.communicate()
        with access.Access(site.run) as door:
            held = door.forced()
            assert set(held) <= {"Tank.a", "Tank.b"}
            door.write({"Tank.name": f"n{kill}"})
            door.unforce(None)
            assert door.forced() == {}
        assert look(site, "Tank.name") == {"Tank.name": f"n{kill}"}


def test_the_command_line_writes_forces_and_tells(site: Site) -> None:
    configure(site)
    site.start()

    def say(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "vplc.scan", words[0], str(site.run), *words[1:]],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    assert say("write", "Tank.a=5", "Tank.name=west", "Tank.list=[1,2,3]") == (0, "")
    assert say("force", "Tank.pump=true", "Tank.speed=7") == (0, "")
    assert say("forces") == (0, "Tank.pump = true\nTank.speed = 7\n")
    assert json.loads(say("forces", "--json")[1]) == {"forces": {"Tank.pump": True, "Tank.speed": 7}}
    assert "FORCED: 2 values" in say("status")[1]
    assert say("unforce", "--all") == (0, "")
    assert say("forces") == (0, "nothing is forced\n")
    code, said = say("write", "limit=3", "Tank.what=1", "oops")
    assert code == 1
    assert "oops: says no value" in said
    assert say("write", "limit=3", "Tank.what=1")[1].count("hint") == 1
    assert say("unforce")[0] == 1
    assert look(site, "Tank.a", "Tank.name", "Tank.list") == {
        "Tank.a": 5, "Tank.name": "west", "Tank.list": [1, 2, 3],
    }  # fmt: skip


def test_the_run_folder_holds_the_compilers_layout_of_each_version(site: Site) -> None:
    configure(site)
    site.start()
    kept = variables.layout_file(site.run, 1)
    assert kept.read_bytes() == (site.folder / "program.json").read_bytes()
    assert kept.stat().st_size > 1000
