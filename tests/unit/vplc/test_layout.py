"""The state's layout: retained part first, addresses in their areas, and a library that runs without Python."""

import ctypes
import itertools
import json
from pathlib import Path

import pytest

from vplc.cli import main
from vplc.compiler.build import Build, compile_sources, layout_document
from vplc.compiler.source import Source

TEXT = """
VAR_GLOBAL RETAIN total : LINT := 7; END_VAR
VAR_GLOBAL lamp AT %QX0.3 : BOOL; level AT %IW2 : INT; mark AT %MD1 : DINT; END_VAR
FUNCTION_BLOCK Meter
VAR_INPUT step : INT := 2; END_VAR
VAR RETAIN sum : DINT; END_VAR
  sum := sum + step;
END_FUNCTION_BLOCK
PROGRAM Main
VAR plain : INT; meter : Meter; END_VAR
VAR RETAIN kept : DINT := 5; END_VAR
  plain := plain + 1;
  meter();
  kept := kept + level;
  lamp := plain > 2;
  IF plain = 9 THEN plain := plain / (plain - 9); END_IF;
END_PROGRAM
CONFIGURATION Plant
  RESOURCE Cpu ON Any
    TASK Fast(INTERVAL := T#10ms, PRIORITY := 1);
    PROGRAM One WITH Fast : Main;
  END_RESOURCE
END_CONFIGURATION
"""


@pytest.fixture(scope="module")
def built() -> Build:
    return compile_sources([Source("plant.st", TEXT)])


@pytest.fixture(scope="module")
def document(built: Build) -> dict:
    return layout_document(built, "x86-64")


def entry(document: dict, path: str) -> dict:
    return next(v for v in document["variables"] if v["path"] == path)


def test_retained_variables_lie_inside_the_first_part(document: dict) -> None:
    size = document["retain"]["size"]
    for path in ("total", "One.kept", "One.meter.sum"):
        found = entry(document, path)
        assert found["retain"]
        assert found["offset"] + found["size"] <= size
    assert entry(document, "One.plain")["offset"] >= size
    assert not entry(document, "One.plain")["retain"]


def test_located_variables_lie_in_their_area(document: dict) -> None:
    areas = document["areas"]
    assert entry(document, "lamp")["offset"] == areas["outputs"]["offset"]
    assert entry(document, "lamp")["bit"] == 3
    assert entry(document, "level")["offset"] == areas["inputs"]["offset"] + 4
    assert entry(document, "mark")["offset"] == areas["memory"]["offset"] + 4
    assert entry(document, "level")["direction"] == "input"


def test_no_two_variables_overlap(document: dict) -> None:
    spans = sorted((v["offset"], v["offset"] + v["size"], v["path"]) for v in document["variables"])
    for (_, end, path), (start, _, other) in itertools.pairwise(spans):
        assert end <= start, (path, other)


def test_tasks_and_entry_points_are_listed(document: dict) -> None:
    assert document["tasks"] == [{"name": "Fast", "interval_ns": 10_000_000, "priority": 1, "single": None}]
    assert document["programs"][0]["run"] == "vplc_run_One"


def test_the_layout_is_the_same_for_every_target(built: Build) -> None:
    one, other = layout_document(built, "x86-64"), layout_document(built, "armv7")
    one.pop("target")
    other.pop("target")
    assert one == other


def test_built_library_runs_and_faults_through_its_c_interface(tmp_path: Path) -> None:
    source = tmp_path / "plant.st"
    source.write_text(TEXT, "utf-8")
    out = tmp_path / "plant.so"
    assert main(["build", str(source), "-o", str(out), "-O1"]) == 0
    document = json.loads((tmp_path / "plant.json").read_text("utf-8"))
    library = ctypes.CDLL(str(out))
    memory = ctypes.create_string_buffer(document["state_size"] + 16)
    state = (ctypes.addressof(memory) + 15) & ~15
    shift = state - ctypes.addressof(memory)
    library.vplc_init.argtypes = [ctypes.c_void_p]
    library.vplc_run_One.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    assert library.vplc_init(state) == 0

    def value(path: str) -> int:
        found = entry(document, path)
        start = shift + found["offset"]
        return int.from_bytes(memory.raw[start : start + found["size"]], "little", signed=True)

    assert value("total") == 7
    level = shift + entry(document, "level")["offset"]
    memory[level] = 4
    for scan in range(8):
        assert library.vplc_run_One(state, scan * 10_000_000) == 0
    assert (value("One.plain"), value("One.kept"), value("One.meter.sum")) == (8, 37, 16)
    assert memory.raw[shift + document["areas"]["outputs"]["offset"]] == 8
    assert library.vplc_run_One(state, 0) == 1
    site = shift + document["header"]["fault_site"]
    number = int.from_bytes(memory.raw[site : site + 4], "little")
    fault = next(f for f in document["faults"] if f["site"] == number)
    assert (fault["kind"], fault["pou"], fault["line"]) == ("division", "Main", 16)


def test_retained_part_survives_a_new_start(built: Build) -> None:
    from vplc.runtime.host import Host
    from vplc.runtime.values import find, read

    host = Host(built, 0)
    instance = built.program.instances[0]
    host.init()
    run = host.runner(instance)
    run(host.address, 0)
    kept = bytes(host.memory[: built.layout.retain_size])
    host.init()
    host.memory[: built.layout.retain_size] = kept
    assert read(host.memory, find(built.program, instance, "meter.sum", built.layout)) == 2
    assert read(host.memory, find(built.program, instance, "plain", built.layout)) == 0


def test_the_structure_says_what_variables_are_part_of() -> None:
    text = """
    TYPE Mode : (Off, Auto, Manual := 5); Share : INT (0..100);
      Recipe : STRUCT speed : REAL; mode : Mode; END_STRUCT; END_TYPE
    VAR_GLOBAL total : LINT; END_VAR
    FUNCTION_BLOCK Base VAR_INPUT step : INT; END_VAR END_FUNCTION_BLOCK
    FUNCTION_BLOCK Meter EXTENDS Base
    VAR_OUTPUT done : BOOL; END_VAR VAR_IN_OUT part : INT; END_VAR VAR sum : DINT; back : REF_TO Meter; END_VAR
    END_FUNCTION_BLOCK
    PROGRAM Main
    VAR_EXTERNAL total : LINT; END_VAR
    VAR meters : ARRAY[1..2] OF Meter; recipe : Recipe; share : Share; lamp AT %QX0.0 : BOOL; END_VAR
    END_PROGRAM
    CONFIGURATION Plant RESOURCE Cpu ON Any
      TASK Fast(INTERVAL := T#10ms, PRIORITY := 1); PROGRAM One WITH Fast : Main;
    END_RESOURCE END_CONFIGURATION
    """
    found: dict = layout_document(compile_sources([Source("plant.st", text)]), "x86-64")["structure"]  # type: ignore[assignment]
    assert (found["configuration"], found["resource"]) == ("Plant", "Cpu")
    types = found["types"]
    assert found["globals"] == [["total", "LINT"]]
    name, number = found["programs"][0]
    members = {m: (t, section) for m, t, section in types[number]["members"]}
    assert name == "One"
    assert members["total"] == ("LINT", "external")
    assert members["lamp"] == ("BOOL", "local")
    array, _ = members["meters"]
    assert array["dims"] == [[1, 2]]
    meter = types[array["of"]]
    sections = {m: section for m, _, section in meter["members"]}
    assert sections == {"step": "input", "done": "output", "part": "inout", "sum": "local", "back": "local"}
    assert types[meter["base"]]["name"] == "Base"
    assert {m: t for m, t, _ in meter["members"]}["back"] == {"refers": "REF_TO Meter"}
    recipe = types[members["recipe"][0]]
    assert types[recipe["fields"][1][1]] == {
        "kind": "enum", "name": "Mode", "base": "INT", "values": {"Off": 0, "Auto": 1, "Manual": 5},
    }  # fmt: skip
    share = types[members["share"][0]]
    assert (share["low"], share["high"]) == (0, 100)
