"""The command line, whose shapes are fixed."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.simulators.bearing_signal import Fault, Machine, record
from workloads.vibration.bearing import orders_of
from workloads.vibration.cli import main

ORDERS = orders_of(Machine().geometry)
GIVEN = {"ftf": ORDERS.ftf, "bsf": ORDERS.bsf, "bpfo": ORDERS.bpfo, "bpfi": ORDERS.bpfi}
TYPED = ",".join(f"{key}={value}" for key, value in GIVEN.items())


@pytest.fixture
def outer(tmp_path: Path) -> Path:
    np.save(tmp_path / "outer.npy", record(Machine(faults=(Fault(part="OR", level=1.0),)), 1))
    return tmp_path / "outer.npy"


def _entry(name: str = "a", file: str = "outer.npy", **other: object) -> dict[str, object]:
    return {"id": name, "file": file, "rate": 12_000, "rpm": 1750, "orders": GIVEN, "unit": "g", **other}


def _list(folder: Path, entries: object) -> str:
    (folder / "list.json").write_text(json.dumps(entries))
    return str(folder / "list.json")


def test_a_list_is_answered_record_by_record(outer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(outer.parent / "well.npy", record(Machine(), 2))
    assert main(["diagnose", _list(outer.parent, [_entry(), _entry("b", "well.npy")]), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [sorted(one) for one in answers] == [["confidence", "evidence", "fault", "id"]] * 2
    assert [(one["id"], one["fault"]) for one in answers] == [("a", "OR"), ("b", "N")]
    assert all(0 <= one["confidence"] <= 1 for one in answers)


def test_records_of_a_list_are_independent(outer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(outer.parent / "well.npy", record(Machine(), 2))
    entries = [_entry(), _entry("b", "well.npy"), _entry("c", rpm=0)]
    seen = []
    for order in (entries, entries[::-1]):
        main(["diagnose", _list(outer.parent, order), "--json"])
        seen.append({one["id"]: one for one in json.loads(capsys.readouterr().out)})
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file": "none.npy"}, "cannot be read"),
        ({"rpm": 0}, "does not turn"),
        ({"rpm": None}, "not known"),
        ({"rate": None}, "sampling rate"),
        ({"rate": "fast"}, "not a number"),
        ({"orders": {"bpfo": 1}}, "missing"),
        ({"file": "empty.npy"}, "no samples"),
        ({"file": "nan.npy"}, "no numbers"),
        ({"file": "flat.npy"}, "all 5000 samples"),
    ],
)
def test_a_bad_record_is_refused_by_name_and_the_others_go_on(
    outer: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], reason: str
) -> None:
    np.save(outer.parent / "empty.npy", np.array([]))
    np.save(outer.parent / "nan.npy", np.full(5000, np.nan))
    np.save(outer.parent / "flat.npy", np.ones(5000))
    assert main(["diagnose", _list(outer.parent, [{**_entry("bad"), **change}, _entry("good")]), "--json"]) == 0
    bad, good = json.loads(capsys.readouterr().out)
    assert (bad["id"], bad["fault"], bad["confidence"]) == ("bad", "N", 0.0)
    assert bad["evidence"]["verdict"] == "cannot judge"
    assert reason in bad["evidence"]["why"]
    assert good["fault"] == "OR"


@pytest.mark.parametrize(
    "kind", ["<i2", ">i2", "|i1", "<u2", "<i4", "<f4", ">f4", ">f8", "<f2", "column", "row", "shifted"]
)
def test_however_an_array_is_saved_its_answer_is_the_same(
    outer: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    wave = np.load(outer)
    counts = np.round(wave / np.abs(wave).max() * 120)
    shapes = {"column": wave[:, None], "row": wave[None, :], "shifted": (wave + 1000).astype("<f4")}
    saved = shapes.get(kind, wave if "f" in kind else counts + (128 if "u" in kind else 0))
    np.save(outer.parent / "other.npy", saved if kind in shapes else saved.astype(kind))
    assert main(["diagnose", _list(outer.parent, [_entry("a", "other.npy")]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["fault"] == "OR"


@pytest.mark.parametrize(
    "change",
    [
        {"unit": None},
        {"unit": "furlong"},
        {"orders": {key: GIVEN[key] for key in ("bpfo", "bpfi", "bsf")}},
        {"orders": {**GIVEN, "bsf": None}},
        {"orders": {**{key.upper(): value for key, value in GIVEN.items()}, "elements": 9}},
    ],
)
def test_what_a_diagnosis_can_do_without_may_be_missing(
    outer: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    assert main(["diagnose", _list(outer.parent, [{**_entry(), **change}]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["fault"] == "OR"


def test_every_entry_of_a_list_gets_an_answer_whatever_it_is(outer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (outer.parent / "torn.npy").write_bytes(outer.read_bytes()[:1000])
    np.save(outer.parent / "complex.npy", np.ones(5000, dtype=complex))
    np.save(outer.parent / "cube.npy", np.ones((10, 10, 30)))
    np.save(outer.parent / "tiny.npy", np.arange(50.0))
    files = ["torn.npy", "complex.npy", "cube.npy", "tiny.npy", "outer.npy"]
    entries = [5, None, {}, {"id": [1]}, *(_entry(name, name) for name in files)]
    assert main(["diagnose", _list(outer.parent, entries), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [one["fault"] for one in answers] == ["N"] * 8 + ["OR"]
    assert {one["confidence"] for one in answers[:-1]} == {0.0}


def test_a_list_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.json").write_text("{")
    assert main(["diagnose", str(tmp_path / "list.json"), "--json"]) == 2
    assert "no JSON" in capsys.readouterr().err


def test_one_file_is_analysed_with_all_that_is_known(outer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["analyse", str(outer), "--rate", "12000", "--rpm", "1750", "--orders", TYPED, "--unit", "g"]
    assert main([*asked, "--machine", "class1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["diagnosis"]["fault"] == "OR"
    assert answer["features"]["velocity_mm_s"] > 0
    assert answer["severity"]["zone"] in "ABCD"
    assert answer["severity"]["edition"] == "ISO 10816-1:1995"


def test_without_a_unit_there_is_no_iso_figure_and_the_reason_is_told(
    outer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["analyse", str(outer), "--rate", "12000", "--rpm", "1750", "--machine", "class1", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (answer["features"]["velocity_mm_s"], answer["severity"]["zone"]) == (None, None)
    assert "unit" in answer["severity"]["why"]


def test_text_names_the_fault_and_its_lines(outer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyse", str(outer), "--rate", "12000", "--rpm", "1750", "--bearing", "6205"]) == 0
    text = capsys.readouterr().out
    assert "fault [OR]" in text
    assert "BPFO" in text


def test_the_evidence_can_be_drawn(outer: Path) -> None:
    picture = outer.parent / "outer.svg"
    asked = ["analyse", str(outer), "--rate", "12000", "--rpm", "1750", "--bearing", "6205", "--picture", str(picture)]
    assert main(asked) == 0
    root = ElementTree.fromstring(picture.read_text())
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "BPFO" in words
    assert any("[OR]" in (word or "") for word in words)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (["--orders", "bpfo=x"], "expected name=number"),
        (["--bearing", "12345"], "not in the library"),
        (["--channel", "7"], "channel 7 does not exist"),
        (["--rate", "0"], "sampling rate of 0 Hz"),
    ],
)
def test_what_cannot_be_analysed_ends_with_2_and_a_reason(
    outer: Path, capsys: pytest.CaptureFixture[str], extra: list[str], reason: str
) -> None:
    assert main(["analyse", str(outer), "--rate", "12000", "--rpm", "1750", *extra]) == 2
    assert reason in capsys.readouterr().err
