"""Example projects and the Structured Text they become; read the .st files beside the drawings' comments."""

from __future__ import annotations

from pathlib import Path

import pytest

from vplc.plcopen import Imported, load

GOLDEN = Path(__file__).parents[2] / "golden" / "plcopen"
PROJECTS = sorted(p.stem for p in GOLDEN.glob("*.xml"))


def left_behind(imported: Imported) -> str:
    """The list of what was not taken, one line each."""
    lines = [f"{'logic' if n.logic else 'other'} | {n.place} | {n.why}" for n in imported.not_taken]
    return "".join(line + "\n" for line in lines)


@pytest.mark.parametrize("name", PROJECTS)
def test_a_project_becomes_this_text(name: str) -> None:
    imported = load(GOLDEN / f"{name}.xml")
    assert imported.problems == ()
    assert imported.st_text == (GOLDEN / f"{name}.st").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PROJECTS)
def test_a_project_leaves_this_behind(name: str) -> None:
    imported = load(GOLDEN / f"{name}.xml")
    expected = GOLDEN / f"{name}.not_taken.txt"
    assert left_behind(imported) == (expected.read_text(encoding="utf-8") if expected.exists() else "")


@pytest.mark.parametrize("name", PROJECTS)
def test_every_line_of_the_text_has_a_place_in_the_xml(name: str) -> None:
    imported = load(GOLDEN / f"{name}.xml")
    xml = (GOLDEN / f"{name}.xml").read_text(encoding="utf-8").split("\n")
    lines = imported.st_text.split("\n")[:-1]
    assert len(imported.source_map.places) == len(lines)
    for place in imported.source_map.places:
        assert 1 <= place.line <= len(xml)


def test_verbatim_lines_map_to_their_own_xml_line() -> None:
    imported = load(GOLDEN / "mixing.xml")
    xml = (GOLDEN / "mixing.xml").read_text(encoding="utf-8").split("\n")
    lines = imported.st_text.split("\n")
    for text in ("Hit := X > Limit;", "  Clamp := Limit;", "END_IF;"):
        place = imported.source_map.locate(lines.index(text) + 1)
        assert place is not None
        assert place.pou == "Clamp"
        assert text in xml[place.line - 1]


def test_translated_lines_name_the_element_they_come_from() -> None:
    imported = load(GOLDEN / "motor.xml")
    lines = imported.st_text.split("\n")
    place = imported.source_map.locate(lines.index("Lamp := Warm.Q;") + 1)
    assert place is not None
    assert (place.pou, place.what) == ("Motor", "coil Lamp")
    xml = (GOLDEN / "motor.xml").read_text(encoding="utf-8").split("\n")
    assert 'coil localId="11"' in xml[place.line - 1]


def test_lines_outside_the_text_have_no_place() -> None:
    imported = load(GOLDEN / "motor.xml")
    assert imported.source_map.locate(0) is None
    assert imported.source_map.locate(10_000) is None
