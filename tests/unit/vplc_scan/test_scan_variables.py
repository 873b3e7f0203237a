"""Paths to places, and what writing refuses before any host is asked."""

from __future__ import annotations

import pytest

from tests.unit.vplc_scan.scan_documents import document, variable
from vplc.scan import access, change, layout, values, variables

ROWS = [
    variable("P1.level", "INT", 130, 2, address="%IW1"),
    variable("P1.start", "BOOL", 128, 1, bit=0, address="%IX0.0"),
    variable("P1.go", "BOOL", 128, 1, bit=1, address="%IX0.1"),
    variable("P1.list", "ARRAY[1..3,0..1] OF INT", 160, 12),
    variable("P1.pid.gain", "REAL", 172, 4),
    variable("P1.pid.sum", "LREAL", 176, 8),
    variable("P1.name", "STRING[5]", 184, 6),
    variable("P1.limit", "INT", 190, 2, constant=True),
    variable("P1.share", "INT", 192, 2, type="INT(0..100)"),
    variable("P1.ref", "REF_TO INT", 200, 8),
]


def known(rows: list[dict[str, object]] | None = None) -> variables.Variables:
    found = layout.parse(document(rows or ROWS), "here")
    fed = [(130, 2, -1, "io", "level"), (128, 1, 0, "io", "start")]
    return variables.Variables(1, found.variables, tuple(variables.Fed(*f[:2], f[2], *f[3:]) for f in fed))


def test_an_element_of_an_array_is_found_by_its_indices_and_nothing_beyond() -> None:
    found = known().one("p1.LIST[3, 1]")
    assert found is not None
    assert (found.path, found.base, found.offset, found.size) == ("P1.list[3,1]", "INT", 170, 2)
    for wrong in ("P1.list[0,0]", "P1.list[4,0]", "P1.list[1]", "P1.list[1,0,0]", "P1.level[1]", "P1.list[,]"):
        assert known().one(wrong) is None
    assert known().find("P1.list[4,0]") == []


def test_a_structure_is_found_with_all_its_parts() -> None:
    assert [v.path for v in known().find("p1.pid")] == ["P1.pid.gain", "P1.pid.sum"]


def test_the_feeding_driver_of_a_bit_is_not_that_of_its_neighbour() -> None:
    all_of = known()
    start, go = all_of.one("P1.start"), all_of.one("P1.go")
    assert start is not None
    assert go is not None
    assert all_of.feeder(start) is not None
    assert all_of.feeder(go) is None


def test_all_mistakes_are_told_at_once() -> None:
    changes: dict[str, values.Json] = {
        "P1.lvel": 1,
        "P1.pid": 1,
        "P1.limit": 4,
        "P1.ref": 4,
        "P1.level": 40000,
        "P1.share": 101,
        "P1.name": "longer",
        "P1.list": [1, 2],
        "P1.list[1,0]": "x",
        "P1.start": 2,
        "P1.pid.gain": 1.5,
    }
    rows, problems = access.resolve(known(), changes)
    assert [r.variable.path for r in rows] == ["P1.pid.gain"]
    said = [str(p) for p in problems]
    for part in (
        'P1.lvel: there is no such variable\n  hint: did you mean "P1.level"?',
        "P1.pid: has parts",
        "P1.limit: is a CONSTANT",
        "P1.ref: is a reference",
        "P1.level: 40000 does not fit INT",
        "P1.share: 101 is not from 0 to 100",
        "P1.name: 'longer' is longer than 5 characters",
        "P1.list: needs a list of 6 values",
        "P1.list[1,0]: 'x' is not a number",
        "P1.start: 2 is not a BOOL",
    ):
        assert any(part in s for s in said), part
    assert len(said) == 10


def test_one_memory_is_not_given_twice_in_one_call() -> None:
    _, problems = access.resolve(known(), {"P1.list": [0] * 6, "P1.list[2,0]": 5})
    assert [str(p) for p in problems] == ["P1.list[2,0]: is given twice: P1.list lies in the same memory"]


@pytest.mark.parametrize(
    ("base", "size", "value"),
    [("STRING[5]", 6, "tank"), ("WSTRING[3]", 8, "äß"), ("ARRAY[0..2] OF INT", 6, [1, -2, 3]), ("LREAL", 8, 0.1),
     ("ARRAY[0..1] OF BOOL", 2, [True, False]), ("TIME", 8, 1_500_000_000), ("Color", 2, 5)],
)  # fmt: skip
def test_what_is_encoded_is_decoded_again(base: str, size: int, value: values.Json) -> None:
    data = values.encode_variable(base, size, value)
    assert len(data) == size
    assert values.decode(base, data) == value


def test_forces_go_to_the_new_program_by_path_and_end_with_their_variables() -> None:
    moved = [{**row, "offset": int(row["offset"]) + 16} for row in ROWS if row["path"] != "P1.name"]
    moved[3] = {**moved[3], "path": "P1.table"}
    held: dict[str, values.Json] = {"P1.level": 7, "P1.name": "a", "P1.list[1,1]": 4}
    kept, ended = change.carry_forces(held, known(moved), {"P1.list": "P1.table"})
    assert [(c.variable.path, c.variable.offset, c.value) for c in kept] == [
        ("P1.level", 146, 7),
        ("P1.table[1,1]", 178, 4),
    ]
    assert ended == ["P1.name"]
