"""`python -m vplc.plcopen`: text, list and exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vplc.plcopen.__main__ import main

GOLDEN = Path(__file__).parents[2] / "golden" / "plcopen"


def test_the_text_goes_to_the_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(GOLDEN / "motor.xml")]) == 0
    out, err = capsys.readouterr()
    assert out == (GOLDEN / "motor.st").read_text(encoding="utf-8")
    assert err == ""


def test_lost_logic_is_listed_and_makes_the_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.st"
    assert main([str(GOLDEN / "refused.xml"), "-o", str(target)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "refused.xml:12  Chart, SFC body\nnot taken: bodies in SFC are not translated" in err
    assert "refused.xml:61  Kept, transition T1\nleft out: transitions belong to SFC" in err
    assert target.read_text(encoding="utf-8") == (GOLDEN / "refused.st").read_text(encoding="utf-8")


def test_json_holds_text_map_and_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(GOLDEN / "refused.xml"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["complete"]
    assert found["problems"] == []
    assert len(found["map"]) == found["st"].count("\n")
    assert found["map"][0] == [1, 57, "Kept", ""]
    assert found["not_taken"][2] == {
        "line": 12, "pou": "Chart", "element": "SFC body", "why": "bodies in SFC are not translated", "logic": True,
    }  # fmt: skip


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/nowhere/absent.xml"]) == 1
    assert "/nowhere/absent.xml: No such file or directory" in capsys.readouterr().err


def test_a_file_that_is_no_xml_is_located(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.xml"
    path.write_bytes(b"<project>\n<")
    target = tmp_path / "out.st"
    assert main([str(path), "-o", str(target)]) == 1
    assert f"{path}:2:" in capsys.readouterr().err
    assert not target.exists()
