"""The command line as other tools call it: flags, JSON shapes, exit codes, messages."""

import json
from pathlib import Path

import pytest

from vplc.cli import main

COUNTER = """PROGRAM Main
VAR
  x, limit : INT := 3;
  timer : TON;
  a : ARRAY[0..2] OF INT;
  r : REAL;
END_VAR
  x := x + 1;
  timer(IN := TRUE, PT := T#20ms);
  a[x MOD 3] := x;
  r := INT_TO_REAL(x) / 2.0;
  IF x > limit + 100 THEN a[x] := 1; END_IF;
END_PROGRAM
"""


@pytest.fixture
def counter(tmp_path: Path) -> str:
    path = tmp_path / "counter.st"
    path.write_text(COUNTER, "utf-8")
    return str(path)


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    code = main(list(argv))
    return code, capsys.readouterr().out


def test_run_json_has_values_and_scans(counter: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = output(
        capsys, "run", counter, "--program", "Main", "--scans", "5", "--json", "--watch", "x,timer.Q,a[2],r"
    )
    assert code == 0
    assert json.loads(text) == {"values": {"x": 8, "timer.Q": True, "a[2]": 8, "r": 4.0}, "scans": 5}


def test_run_csv_has_a_header_and_a_row_per_scan(counter: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = output(capsys, "run", counter, "--scans", "3", "--csv", "--watch", "x,timer.Q", "--set", "x=10@1")
    assert code == 0
    assert text == "x,timer.Q\n4,FALSE\n11,FALSE\n12,TRUE\n"


def test_run_is_the_same_with_and_without_rows(counter: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["run", counter, "--scans", "40", "--watch", "x,a[0],timer.ET", "--set", "x=1@7", "--set", "limit=9@20"]
    last = output(capsys, *argv, "--csv")[1].splitlines()[-1]
    values = json.loads(output(capsys, *argv, "--json")[1])["values"]
    assert last == ",".join(str(v) for v in values.values())


def test_a_fault_ends_the_run_with_an_object(counter: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = output(capsys, "run", counter, "--scans", "9", "--json", "--watch", "x", "--set", "x=500@2")
    assert code == 1
    result = json.loads(text)
    assert result["scans"] == 2
    fault = result["fault"]
    assert (fault["pou"], fault["line"], fault["kind"], fault["values"]) == ("Main", 12, "bounds", [501])
    assert fault["file"] == counter


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--program", "Mian"], "Main"),
        (["--watch", "tmier.Q"], "timer"),
        (["--set", "x=abc@0"], "abc"),
        (["--set", "x"], "PATH=VALUE@SCAN"),
        (["--set", "x=70000@0"], "70000"),
        (["--watch", "a[7]"], "0..2"),
        (["--period", "soon"], "soon"),
    ],
)
def test_wrong_arguments_name_what_is_wrong(
    counter: str, argv: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", counter, *argv]) == 1
    captured = capsys.readouterr()
    assert word in captured.out + captured.err


def test_check_json_places_every_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wrong.st"
    path.write_text("PROGRAM Main\nVAR count : INT; END_VAR\ncuont := 1;\ncount := 'a';\nEND_PROGRAM\n", "utf-8")
    code, text = output(capsys, "check", str(path), "--json")
    result = json.loads(text)
    assert code == 1
    assert not result["ok"]
    assert [(d["code"], d["line"], d["col"]) for d in result["diagnostics"]] == [("E030", 3, 1), ("E040", 4, 10)]
    assert "count" in result["diagnostics"][0]["hint"]


def test_check_shows_the_line_with_a_caret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wrong.st"
    path.write_text("PROGRAM Main\n  x := 1;\nEND_PROGRAM\n", "utf-8")
    code, text = output(capsys, "check", str(path))
    assert code == 1
    assert f"{path}:2:3: error E030" in text
    assert "\n      x := 1;\n      ^\n" in text


def test_clean_files_exit_with_zero(counter: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "check", counter) == (0, "")


def test_missing_file_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = output(capsys, "check", "nowhere.st")
    assert code == 1
    assert "nowhere.st" in text
    assert "E081" in text


def test_unknown_option_is_a_message(counter: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", counter, "--fast"])
    assert stop.value.code == 2
    assert "--fast" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data", [b"", b"\x00\xff\xfe", b"\xff\xfeP\x00", b"(*", b"'", b"PROGRAM", b"%IX", b"\x80" * 99]
)
def test_any_bytes_give_diagnostics_or_nothing(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bytes.st"
    path.write_bytes(data)
    assert main(["check", str(path), "--json"]) in (0, 1)
    json.loads(capsys.readouterr().out)


def test_test_prints_one_object_per_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, tests = tmp_path / "twice.st", tmp_path / "twice_test.st"
    source.write_text("FUNCTION Twice : INT\nVAR_INPUT x : INT; END_VAR\nTwice := x * 2;\nEND_FUNCTION\n", "utf-8")
    tests.write_text(
        "TEST 'right'\nASSERT_EQ(Twice(2), 4);\nEND_TEST\nTEST \"wrong\"\nASSERT_EQ(Twice(2), 5);\nEND_TEST\n"
    )
    code, text = output(capsys, "test", str(source), "--test", str(tests), "--json")
    first, second = (json.loads(line) for line in text.splitlines())
    assert code == 1
    assert first == {"name": "right", "file": str(tests), "line": 1, "passed": True, "message": ""}
    assert (second["name"], second["line"], second["passed"]) == ("wrong", 5, False)
    assert "got 4" in second["message"]


def test_bench_reports_time_memory_and_checksum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.st"
    path.write_text(
        "PROGRAM B\nVAR chk : DINT; chkr : LREAL; END_VAR\nchk := chk + 1; chkr := 0.5;\nEND_PROGRAM\n", "utf-8"
    )
    code, text = output(capsys, "bench", str(path), "--program", "B", "--scans", "50", "--json")
    result = json.loads(text)
    assert code == 0
    assert (result["chk"], result["chkr"], result["scans"]) == (50, 0.5, 50)
    assert 0 < result["ns_per_scan_best"] <= result["ns_per_scan_median"]
    assert result["compile_cpu_s"] > 0
    assert result["compile_peak_mb"] > 10


def test_explain_shows_a_page_and_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = output(capsys, "explain", "e040")
    assert code == 0
    assert "## Wrong" in text
    assert "## Right" in text
    assert main(["explain", "E04"]) == 1
    assert "E04" in capsys.readouterr().err
