"""TwinCAT's XML files as sources: the Structured Text in them, on their own lines."""

import json
from pathlib import Path

import pytest

from vplc.cli import main
from vplc.compiler.front import read_source
from vplc.compiler.source import Diagnostics

TANK = """<?xml version="1.0" encoding="utf-8"?>
<TcPlcObject Version="1.1.0.1">
  <POU Name="FB_Tank" Id="{0}" SpecialFunc="None">
    <Declaration><![CDATA[(* no PROGRAM at all *)
{attribute 'no_check'}
FUNCTION_BLOCK FB_Tank IMPLEMENTS I_Tank
VAR_INPUT inflow : INT; END_VAR
VAR level : INT; END_VAR]]></Declaration>
    <Implementation>
      <ST><![CDATA[Fill(); // by the action]]></ST>
    </Implementation>
    <Folder Name="Parts" Id="{1}" />
    <Action Name="Fill" Id="{2}">
      <Implementation>
        <ST><![CDATA[level := level + inflow; // litres]]></ST>
      </Implementation>
    </Action>
    <Method Name="Drain" Id="{3}" FolderPath="Parts\\">
      <Declaration>METHOD PUBLIC Drain : BOOL
VAR_INPUT most : INT; END_VAR</Declaration>
      <Implementation>
        <ST>IF most &lt; level THEN level := level - most; Drain := TRUE; END_IF</ST>
      </Implementation>
    </Method>
    <Property Name="Level" Id="{4}">
      <Declaration><![CDATA[PROPERTY Content : INT]]></Declaration>
      <Get Name="Get" Id="{5}">
        <Declaration><![CDATA[VAR
END_VAR]]></Declaration>
        <Implementation><ST><![CDATA[Content := level;]]></ST></Implementation>
      </Get>
      <Set Name="Set" Id="{6}">
        <Declaration><![CDATA[]]></Declaration>
        <Implementation>
          <ST><![CDATA[level := Content;]]></ST>
        </Implementation>
      </Set>
    </Property>
    <LineIds Name="FB_Tank"><LineId Id="1" Count="0" /></LineIds>
  </POU>
</TcPlcObject>
"""
INTERFACE = """<?xml version="1.0" encoding="utf-8"?>
<TcPlcObject><Itf Name="I_Tank" Id="{0}">
    <Declaration><![CDATA[INTERFACE I_Tank]]></Declaration>
    <Method Name="Drain" Id="{1}"><Declaration><![CDATA[METHOD Drain : BOOL
VAR_INPUT most : INT; END_VAR]]></Declaration></Method>
    <Property Name="Content" Id="{2}"><Declaration><![CDATA[PROPERTY Content : INT]]></Declaration>
      <Get Name="Get" Id="{3}"><Declaration><![CDATA[]]></Declaration></Get>
      <Set Name="Set" Id="{4}"><Declaration><![CDATA[]]></Declaration></Set>
    </Property>
</Itf></TcPlcObject>
"""
TYPES = """<?xml version="1.0" encoding="utf-8"?>
<TcPlcObject><DUT Name="E_Mode" Id="{0}"><Declaration><![CDATA[TYPE E_Mode : (Off, Auto := 5); END_TYPE
]]></Declaration></DUT></TcPlcObject>
"""
LISTS = """<?xml version="1.0" encoding="utf-8"?>
<TcPlcObject><GVL Name="{name}" Id="{{0}}"><Declaration><![CDATA[{attribute}VAR_GLOBAL
    tank : FB_Tank;
    limit : INT := {limit};
END_VAR]]></Declaration></GVL></TcPlcObject>
"""
MAIN = """<?xml version="1.0" encoding="utf-8"?>
<TcPlcObject>
  <POU Name="MAIN" Id="{0}">
    <Declaration><![CDATA[PROGRAM MAIN
VAR got, sum : INT; ok : BOOL; mode : E_Mode := E_Mode.Auto; END_VAR]]></Declaration>
    <Implementation>
      <ST><![CDATA[
North.tank(inflow := 5);
South.tank.Content := 40;
ok := South.tank.Drain(most := 10);
got := North.tank.Content + South.tank.Content;
sum := North.limit + South.limit;
]]></ST>
    </Implementation>
  </POU>
</TcPlcObject>
"""


@pytest.fixture
def project(tmp_path: Path) -> list[str]:
    only = "{attribute 'qualified_only'}\n"
    texts = {
        "FB_Tank.TcPOU": TANK,
        "I_Tank.TcIO": INTERFACE,
        "E_Mode.TcDUT": TYPES,
        "North.TcGVL": LISTS.format(name="North", attribute=only, limit=7),
        "South.TcGVL": LISTS.format(name="South", attribute=only, limit=4),
        "MAIN.TcPOU": MAIN,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, "utf-8")
    return [str(tmp_path / name) for name in texts]


def test_a_project_of_single_files_runs(project: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *project, "--profile", "codesys", "--json", "--watch", "got,sum,ok,mode"]) == 0
    assert json.loads(capsys.readouterr().out)["values"] == {"got": 35, "sum": 11, "ok": True, "mode": "Auto"}


def test_every_line_stays_where_the_file_has_it(project: list[str]) -> None:
    diagnostics = Diagnostics()
    taken = read_source(project[0], diagnostics).text.split("\n")
    lines = TANK.split("\n")
    assert not diagnostics.items
    assert len(taken) == len(lines)
    for word in ("FUNCTION_BLOCK FB_Tank", "Fill(); //", "level := level + inflow", "Content := level"):
        at = next(number for number, line in enumerate(lines) if word in line)
        assert taken[at].index(word) == lines[at].index(word)


def test_a_message_points_into_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "MAIN.TcPOU"
    path.write_text(MAIN.replace("sum := North.limit + South.limit;", "summ := 3;"), "utf-8")
    assert main(["check", str(path), "--profile", "codesys"]) == 1
    assert f'{path}:12:1: error E030: unknown name "summ"' in capsys.readouterr().out


def test_a_drawn_body_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "MAIN.TcPOU"
    path.write_text(MAIN.replace("<ST><![CDATA[", "<CFC><![CDATA[").replace("]]></ST>", "]]></CFC>"), "utf-8")
    assert main(["check", str(path), "--profile", "codesys"]) == 1
    assert "error E014: a body in CFC is not taken" in capsys.readouterr().out


def test_a_torn_file_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "MAIN.TcPOU"
    for length in range(60, len(MAIN), 37):
        path.write_text(MAIN[:length], "utf-8")
        assert main(["check", str(path), "--profile", "codesys"]) in (0, 1)
    capsys.readouterr()
