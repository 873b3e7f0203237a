"""`vplc fmt`: what it writes, what it refuses, and its exit codes."""

import io
import sys
from pathlib import Path

import pytest

from vplc.cli import main
from vplc.fmt import format_text

UGLY = "program p\nvar a:int:=1;(* one *) bcd : bool; end_var\nif a=1 then a:=2;end_if\nend_program"
NICE = """PROGRAM p
VAR
    a   : INT := 1;  (* one *)
    bcd : BOOL;
END_VAR
    IF a = 1 THEN
        a := 2;
    END_IF
END_PROGRAM
"""


@pytest.fixture
def ugly(tmp_path: Path) -> Path:
    path = tmp_path / "p.st"
    path.write_bytes(UGLY.encode())
    return path


def test_a_file_is_formatted_in_place_and_then_left_alone(ugly: Path) -> None:
    ugly.chmod(0o640)
    assert main(["fmt", str(ugly)]) == 0
    assert ugly.read_text() == NICE
    assert ugly.stat().st_mode & 0o777 == 0o640
    before = ugly.stat().st_mtime_ns, ugly.stat().st_ino
    assert main(["fmt", str(ugly)]) == 0
    assert (ugly.stat().st_mtime_ns, ugly.stat().st_ino) == before
    assert [p.name for p in ugly.parent.iterdir()] == ["p.st"]


def test_check_says_which_file_would_change_and_writes_nothing(ugly: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--check", str(ugly)]) == 1
    assert "p.st: would change" in capsys.readouterr().err
    assert ugly.read_text() == UGLY
    ugly.write_text(NICE)
    assert main(["fmt", "--check", str(ugly)]) == 0


def test_diff_and_stdout_show_the_result_and_write_nothing(ugly: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--diff", str(ugly)]) == 0
    assert "+    a   : INT := 1;  (* one *)\n" in capsys.readouterr().out
    assert main(["fmt", "--stdout", str(ugly)]) == 0
    assert capsys.readouterr().out == NICE
    assert ugly.read_text() == UGLY


def test_the_standard_streams_are_a_file_named_dash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(UGLY.encode())))
    assert main(["fmt", "-"]) == 0
    assert capsys.readouterr().out == NICE


def test_a_syntax_error_leaves_the_file_untouched_and_the_others_are_formatted(
    ugly: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = ugly.with_name("broken.st")
    broken.write_text("PROGRAM p\n  x := ;\nEND_PROGRAM\n")
    assert main(["fmt", str(broken), str(ugly)]) == 1
    err = capsys.readouterr().err
    assert "broken.st:2:8: error E012" in err
    assert "broken.st: left as it is: it has syntax errors" in err
    assert broken.read_text() == "PROGRAM p\n  x := ;\nEND_PROGRAM\n"
    assert ugly.read_text() == NICE


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"\xff\xfe", b"\xff\xfe\x00", b"\x00" * 50, b"\x81\x8d\xff", b"(*", b"'"]
)
def test_any_bytes_are_formatted_or_refused_without_a_traceback(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "any.st"
    path.write_bytes(data)
    code = main(["fmt", str(path)])
    assert code in (0, 1)
    if code:
        assert path.read_bytes() == data


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_encoding_stays(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "enc.st"
    path.write_bytes("program p // grün\nend_program".encode(encoding))
    assert main(["fmt", str(path)]) == 0
    assert path.read_bytes() == "PROGRAM p  // grün\nEND_PROGRAM\n".encode(encoding)


def test_windows_line_ends_stay() -> None:
    assert format_text("program p\r\n(* a\r\n b *)\r\nend_program\r\n") == (
        "PROGRAM p\r\n    (* a\r\n b *)\r\nEND_PROGRAM\r\n".replace("    (*", "(*")
    )


def test_what_is_missing_or_no_structured_text_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", str(tmp_path / "none.st"), str(tmp_path / "a.xml"), str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "none.st: left as it is: No such file or directory" in err
    assert "PLCopen XML" in err
    assert "Is a directory" in err


def test_a_link_stays_a_link(ugly: Path) -> None:
    link = ugly.with_name("link.st")
    link.symlink_to(ugly)
    assert main(["fmt", str(link)]) == 0
    assert link.is_symlink()
    assert ugly.read_text() == NICE


def test_long_calls_are_wrapped_with_one_named_argument_per_line() -> None:
    call = "fb(first_input := some_value, second := T#5s, output => the_result);"
    out = format_text(f"PROGRAM p\n{call}\nEND_PROGRAM\n".replace("first_input", "first_input" * 6))
    assert "    fb(\n        " in out
    assert "\n        second" in out
    assert "\n        output" in out
    assert "=> the_result\n    );\n" in out


def test_names_and_literals_stay_as_they_were_written() -> None:
    text = "PROGRAM p\n    Dt := int#5 + 16#fF + LEN('it$'s') + fb.to;\n    fb(to := t#1H);\nEND_PROGRAM\n"
    assert format_text(text) == text


def test_the_example_of_the_documentation_is_formatted() -> None:
    words = (Path(__file__).resolve().parents[3] / "vplc" / "README.md").read_text("utf-8")
    example = words.partition("## Formatting")[2].partition("```\n")[2].partition("```")[0]
    assert example.startswith("FUNCTION_BLOCK")
    assert format_text(example) == example
