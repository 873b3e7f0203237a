"""Imported projects through the real compiler: they check clean and run as drawn."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.unit.vplc_plcopen.drawings import INPUTS, NAMES, Drawing
from tests.unit.vplc_plcopen.test_translation_property import SCANS, function_blocks, ladders
from vplc.cli import main
from vplc.compiler.build import compile_sources
from vplc.compiler.front import front
from vplc.compiler.source import CompileError, Diagnostics
from vplc.plcopen import load
from vplc.plcopen.read import ImportedSource, read_project
from vplc.runtime.host import Host

GOLDEN = Path(__file__).parents[2] / "golden" / "plcopen"


def vplc(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(list(arguments))
    return code, out.getvalue()


def run(
    path: Path, program: str, scans: int, sets: list[str], watch: list[str], period: str = "10ms"
) -> list[list[str]]:
    options = [o for s in sets for o in ("--set", s)]
    code, text = vplc(
        "run", str(path), "--program", program, "--scans", str(scans), "--period", period, *options,
        "--watch", ",".join(watch), "--csv",
    )  # fmt: skip
    assert code == 0, text
    rows = list(csv.reader(io.StringIO(text)))
    start = rows.index(watch)
    return rows[start + 1 :]


@pytest.mark.parametrize("name", ["motor", "mixing", "station", "conveyor"])
def test_the_text_of_a_project_has_no_fault_the_compiler_finds(name: str) -> None:
    profile = "codesys" if name == "conveyor" else "iec"
    code, text = vplc("check", str(GOLDEN / f"{name}.st"), "--profile", profile)
    assert code == 0, text


def test_the_motor_seals_in_stops_and_counts_its_starts() -> None:
    sets = ["Start=TRUE@1", "Start=FALSE@3", "Stop=TRUE@5", "Stop=FALSE@6", "Start=TRUE@7"]
    rows = run(GOLDEN / "motor.xml", "Motor1", 9, sets, ["Run", "Quiet", "Pulse", "Starts"])
    assert [r[0] for r in rows] == ["FALSE", "TRUE", "TRUE", "TRUE", "TRUE", "FALSE", "FALSE", "TRUE", "TRUE"]
    assert [r[1] for r in rows] == ["TRUE" if r[0] == "FALSE" else "FALSE" for r in rows]
    assert [r[2] for r in rows] == ["FALSE", "TRUE", "FALSE", "FALSE", "FALSE", "FALSE", "FALSE", "TRUE", "FALSE"]
    assert [r[3] for r in rows] == ["0", "1", "1", "1", "1", "1", "1", "2", "2"]


def test_a_falling_trip_latches_the_fault_until_the_next_start() -> None:
    sets = ["Trip=TRUE@0", "Start=TRUE@1", "Start=FALSE@2", "Trip=FALSE@3", "Start=TRUE@5"]
    rows = run(GOLDEN / "motor.xml", "Motor1", 7, sets, ["Fault", "Run"])
    # Scan 5 resets the fault below the first rung: the motor starts in scan 6, while the button is still held.
    assert [r[0] for r in rows] == ["FALSE", "FALSE", "FALSE", "TRUE", "TRUE", "FALSE", "FALSE"]
    assert [r[1] for r in rows] == ["FALSE", "TRUE", "TRUE", "TRUE", "FALSE", "FALSE", "TRUE"]


def test_a_timer_in_a_rung_lights_the_lamp_after_its_time() -> None:
    rows = run(GOLDEN / "motor.xml", "Motor1", 8, ["Start=TRUE@0"], ["Lamp"], period="1s")
    assert [r[0] for r in rows] == ["FALSE"] * 5 + ["TRUE"] * 3


def test_a_wire_against_the_given_order_carries_the_previous_scan() -> None:
    rows = run(GOLDEN / "mixing.xml", "MainProgram", 12, [], ["Counter", "Slow"])
    assert [r[0] for r in rows] == [str(n) for n in range(1, 13)]
    # Slow compares with what the addition made one scan before: 10 was made in scan 9.
    assert [r[1] for r in rows] == ["FALSE"] * 10 + ["TRUE"] * 2


def test_a_jump_skips_the_network_between(tmp_path: Path) -> None:
    rows = run(GOLDEN / "station.xml", "P1", 4, ["In2=TRUE@1", "In2=FALSE@3"], ["Pieces"])
    assert [r[0] for r in rows] == ["0", "1", "2", "2"]


def test_a_fault_the_compiler_finds_is_reported_at_its_line_of_the_xml(tmp_path: Path) -> None:
    data = (GOLDEN / "mixing.xml").read_text(encoding="utf-8").replace("Clamp := Limit;", "Clamp := Limitt;")
    path = tmp_path / "wrong.xml"
    path.write_text(data, encoding="utf-8")
    diagnostics = Diagnostics()
    source = read_project(str(path), diagnostics)
    assert isinstance(source, ImportedSource)
    assert diagnostics.errors == 0
    line, column = source.line_col(source.text.index("Limitt"))
    assert "Clamp := Limitt;" in data.split("\n")[line - 1]
    assert column == 12
    assert source.line_text(line) == "  Clamp := Limitt;  (* Clamp, body *)"
    with contextlib.suppress(CompileError):
        front([source], "iec", diagnostics)
    assert diagnostics.errors == 1
    (error,) = [d for d in diagnostics.items if d.severity == "error"]
    assert error.render().startswith(f"{path}:{line}:12: error ")


def test_a_run_time_fault_names_the_line_of_the_xml(tmp_path: Path) -> None:
    data = (GOLDEN / "refused.xml").read_text(encoding="utf-8")
    body = data[data.index('<pou name="Kept"') : data.index("<actions>")].replace("X := X + 1;", "\nX := 1 / X;")
    path = tmp_path / "divide.xml"
    head = '<project xmlns="http://www.plcopen.org/xml/tc6_0201" xmlns:xhtml="http://www.w3.org/1999/xhtml">'
    path.write_text(f"{head}<types><pous>\n{body}</pou></pous></types></project>", encoding="utf-8")
    diagnostics = Diagnostics()
    source = read_project(str(path), diagnostics)
    assert diagnostics.errors == 0
    host = Host(compile_sources([source], "iec", diagnostics), 1)
    assert host.init() is None
    assert host.runner(host.build.program.instances[0])(host.address, 0) == 1
    line = path.read_text(encoding="utf-8").split("\n").index("X := 1 / X;</xhtml:p></ST></body>") + 1
    assert host.fault().as_json()["line"] == line


def test_logic_that_was_not_taken_is_an_error_at_its_line(tmp_path: Path) -> None:
    diagnostics = Diagnostics()
    read_project(str(GOLDEN / "refused.xml"), diagnostics)
    found = {d.message: d for d in diagnostics.items}
    chart = found["not taken: Chart, SFC body: bodies in SFC are not translated"]
    assert (chart.code, chart.severity) == ("E092", "error")
    assert chart.render().startswith(f"{GOLDEN / 'refused.xml'}:12:1: error")
    assert found["not taken: Kept, transition T1: transitions belong to SFC"].severity == "warning"


def test_a_file_that_is_no_project_or_not_there_is_an_error() -> None:
    for path in (str(GOLDEN / "motor.st"), str(GOLDEN / "absent.xml")):
        diagnostics = Diagnostics()
        assert read_project(path, diagnostics).text == ""
        assert diagnostics.errors == 1


def _agree(drawn: tuple[bytes, dict[str, str]], scans: list[list[bool]], folder: Path) -> None:
    data, instances = drawn
    imported = load(data, "drawn.xml")
    assume(imported.complete)
    path = folder / "drawn.st"
    path.write_text(imported.st_text, encoding="utf-8")
    drawing = Drawing(data, instances)
    sets, expected = [], []
    for number, inputs in enumerate(scans):
        for name, value in zip(INPUTS, inputs, strict=True):
            drawing.values[name] = value
            sets.append(f"{name}={str(value).upper()}@{number}")
        drawing.scan()
        expected.append([str(drawing.values[n]).upper() for n in NAMES])
    assert run(path, "P", len(scans), sets, NAMES) == expected, imported.st_text


_FEW = settings(
    max_examples=20, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@_FEW
@given(function_blocks(), SCANS)
def test_compiled_function_block_diagrams_do_what_they_draw(
    tmp_path: Path, drawn: tuple[bytes, dict[str, str]], scans: list[list[bool]]
) -> None:
    _agree(drawn, scans, tmp_path)


@_FEW
@given(ladders(), SCANS)
def test_compiled_ladders_do_what_they_draw(
    tmp_path: Path, drawn: tuple[bytes, dict[str, str]], scans: list[list[bool]]
) -> None:
    _agree(drawn, scans, tmp_path)
