"""The journal stays bounded and its numbers tell what is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from vplc.scan import journal


def test_entries_come_back_in_order_with_who_what_and_detail(tmp_path: Path) -> None:
    assert journal.since(tmp_path, 0) == []
    journal.note(tmp_path, "anna", "force", {"path": "Main.level", "value": 5, "before": 3})
    journal.note(tmp_path, "bert", "unforce", {"path": "Main.level", "value": None, "before": 5})
    first, second = journal.since(tmp_path, 0)
    assert (first["n"], first["who"], first["what"], first["value"]) == (1, "anna", "force", 5)
    assert str(first["at"]).endswith("Z")
    assert journal.since(tmp_path, 1) == [second]


def test_a_full_file_becomes_the_older_one_and_numbers_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_BYTES", 2000)
    for n in range(200):
        assert journal.note(tmp_path, "anna", "force", {"value": n}) == n + 1
    kept = journal.since(tmp_path, 0)
    assert [e["value"] for e in kept] == list(range(200 - len(kept), 200))
    assert 10 < len(kept) < 60
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 4000


def test_a_line_cut_by_a_killed_writer_costs_only_itself(tmp_path: Path) -> None:
    journal.note(tmp_path, "anna", "force", {"value": 1})
    with (tmp_path / "journal").open("a") as out:
        out.write('{"n": 2, "who": "be\n')
    journal.note(tmp_path, "anna", "force", {"value": 2})
    assert [e["value"] for e in journal.since(tmp_path, 0)] == [1, 2]


def test_a_huge_value_is_cut_and_the_entry_says_so(tmp_path: Path) -> None:
    journal.note(tmp_path, "anna", "force", {"path": "Main.list", "value": [0] * 5000})
    (entry,) = journal.since(tmp_path, 0)
    assert entry["cut"] is True
    assert len(str(entry)) < 2000
