"""Whatever line the power fails at, a swapped folder is the old one or the new one."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import folders


class PowerCut(BaseException):
    """Not an Exception: nothing may clean up after it."""


def cut_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """The ``steps``-th change to the disk from now on does not happen, nor any after it."""
    left = steps

    def guard(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise PowerCut
            return real(*arguments, **named)

        return step

    for owner, name in (
        (Path, "symlink_to"), (Path, "replace"), (Path, "rename"), (folders.shutil, "rmtree"), (folders.os, "fsync"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, guard(getattr(owner, name)))


def filled(place: Path, text: str) -> Path:
    folder = folders.new_folder(place)
    for name in ("a", "b"):
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("steps", range(12))
def test_a_power_cut_while_swapping_leaves_one_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    place = tmp_path / "activated"
    folders.swap_folder(filled(place, "old"), place)
    new = filled(place, "new")
    with monkeypatch.context() as patch:
        cut_after(patch, steps)
        try:
            folders.swap_folder(new, place)
        except PowerCut:
            pass
    texts = {(place / name).read_text() for name in ("a", "b")}
    assert texts in ({"old"}, {"new"})
    folders.clear_leftovers(place)
    assert {(place / name).read_text() for name in ("a", "b")} == texts
    assert len(list(tmp_path.iterdir())) == 2
    folders.swap_folder(filled(place, "next"), place)
    assert (place / "a").read_text() == "next"


def test_a_folder_copied_back_from_a_backup_can_be_swapped_again(tmp_path: Path) -> None:
    place = tmp_path / "activated"
    place.mkdir()
    (place / "a").write_text("restored")
    folders.swap_folder(filled(place, "new"), place)
    assert (place / "a").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_private_file_is_never_readable_by_others_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "node.pem"
    folders.write_file(path, b"one", mode=0o600)
    folders.write_file(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["node.pem"]
