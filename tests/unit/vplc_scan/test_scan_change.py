"""What an online change carries, what it reports, and what forbids it."""

from __future__ import annotations

from typing import Any

from tests.unit.vplc_scan import scan_documents as documents
from vplc.scan import layout
from vplc.scan.change import Move, compare


def made(*variables: dict[str, Any]) -> layout.Layout:
    return layout.parse(documents.document(list(variables)), "t.json")


def row(path: str, kind: str, offset: int, size: int, **more: Any) -> dict[str, Any]:
    return dict(documents.variable(path, kind, offset, size, **more))


OLD = made(
    row("a", "DINT", 0, 4),
    row("b", "DINT", 4, 4),
    row("on", "BOOL", 144, 1, bit=2),
    row("c", "INT", 8, 2, constant=True),
).variables


def test_values_are_carried_by_path_and_neighbours_at_once() -> None:
    new = made(
        row("B", "DINT", 104, 4), row("a", "DINT", 100, 4), row("on", "BOOL", 145, 1, bit=6), row("c", "INT", 0, 2)
    )
    done = compare(OLD, new, {})
    assert done.moves == (Move(0, 100, 8), Move(144, 145, 1, 2, 6))
    assert done.unsafe == ()
    assert done.report == ("c is new: it begins with its initial value",)


def test_a_changed_type_forbids_the_change_and_all_are_listed() -> None:
    new = made(row("a", "REAL", 0, 4), row("b", "LINT", 8, 8), row("on", "BOOL", 20, 1))
    assert compare(OLD, new, {}).unsafe == ("a is DINT and would become REAL", "b is DINT and would become LINT")


def test_a_bit_of_the_image_may_become_a_whole_byte() -> None:
    new = made(row("a", "DINT", 0, 4), row("b", "DINT", 4, 4), row("on", "BOOL", 20, 1))
    assert Move(144, 20, 1, 2, 0) in compare(OLD, new, {}).moves


def test_ends_and_beginnings_are_reported_and_a_rename_is_neither() -> None:
    new = made(row("a", "DINT", 0, 4), row("bb", "DINT", 4, 4), row("x", "INT", 8, 2))
    done = compare(OLD, new, {"b": "bb"})
    assert done.report == ("on ends", "x is new: it begins with its initial value")
    assert done.moves == (Move(0, 0, 8),)


def test_a_reference_is_carried_only_when_nothing_moved() -> None:
    old = made(row("p", "REF_TO INT", 0, 8), row("i", "INT", 8, 2))
    moved = made(row("p", "REF_TO INT", 0, 8), row("i", "INT", 16, 2))
    assert compare(old.variables, old, {}).moves == (Move(0, 0, 10),)
    done = compare(old.variables, moved, {})
    assert done.moves == (Move(8, 16, 2),)
    assert "p refers to a place" in done.report[0]
