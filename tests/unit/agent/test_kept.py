"""What instances keep on a node's disk is measured by what it takes there."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import kept
from agent.kept import Kept, overfull


def test_each_instance_is_measured_with_all_that_lies_below_its_folder(tmp_path: Path) -> None:
    (tmp_path / "motor" / "evidence").mkdir(parents=True)
    (tmp_path / "motor" / "evidence" / "a.svb1").write_bytes(bytes(1 << 20))
    (tmp_path / "quiet").mkdir()
    (tmp_path / "no-folder").write_bytes(bytes(100))
    (tmp_path / "elsewhere").symlink_to("/")
    sizes = Kept(tmp_path, 1 << 30).measure()
    assert set(sizes) == {"motor", "quiet"}
    assert 1 << 20 <= sizes["motor"] < 2 << 20
    assert sizes["quiet"] < 1 << 20


def test_a_link_out_of_the_folder_counts_as_a_link(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(4 << 20))
    (tmp_path / "kept" / "motor").mkdir(parents=True)
    (tmp_path / "kept" / "motor" / "link").symlink_to(tmp_path / "large")
    assert Kept(tmp_path / "kept", 1 << 30).measure()["motor"] < 1 << 20


def test_more_files_than_are_counted_are_over_every_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_ENTRIES", 3)
    (tmp_path / "motor").mkdir()
    for number in range(5):
        (tmp_path / "motor" / str(number)).touch()
    found = Kept(tmp_path, 1 << 30).measure()["motor"]
    assert overfull(found, 1 << 30)


def test_without_any_folder_nothing_is_kept(tmp_path: Path) -> None:
    assert Kept(tmp_path / "none", 1).measure() == {}


def test_the_limit_itself_is_allowed() -> None:
    assert overfull(5 << 20, 5 << 20) == ""
    assert "5 MiB are allowed" in overfull(6 << 20, 5 << 20)
