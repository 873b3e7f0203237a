"""Folders that change as a whole or not at all, whatever line the power fails at.

``swap_folder`` puts a finished folder in the place of the old one by renaming a symbolic link, which is atomic where
renaming a folder onto another is not. Used for the identity, the metadata cache and ``activated/``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from manifests.errors import MachineError

MEMORY = Path("/dev/shm")  # where no disk can hold up a scan


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write, sync and rename into place; the mode holds from the first byte on. Raises OSError."""
    work = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        work.replace(path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def new_folder(place: Path) -> Path:
    """An empty folder beside ``place``, to be filled and then swapped in. Raises OSError."""
    folder = place.with_name(f".{place.name}.{secrets.token_hex(6)}")
    folder.mkdir(mode=0o700, parents=True)
    return folder


def swap_folder(folder: Path, place: Path) -> None:
    """Make ``place`` lead to ``folder`` (from ``new_folder``) and remove what it led to before. Raises OSError."""
    sync_tree(folder)
    old = place.resolve() if place.is_symlink() else None
    if place.is_dir() and old is None:  # copied back from a backup that followed links
        old = place.with_name(f".{place.name}.{secrets.token_hex(6)}").absolute()
        place.rename(old)
    link = place.with_name(f".{place.name}.link.{secrets.token_hex(4)}")
    link.symlink_to(folder.name)
    link.replace(place)
    sync_folder(place.parent)
    if old is not None and old.parent.resolve() == place.parent.resolve() and old.name.startswith(f".{place.name}."):
        shutil.rmtree(old, ignore_errors=True)


def clear_leftovers(place: Path) -> None:
    """Remove folders and links of ``place`` that a crash left behind."""
    current = place.resolve() if place.is_symlink() else None
    if not place.parent.is_dir():
        return
    for found in place.parent.iterdir():
        if not found.name.startswith(f".{place.name}."):
            continue
        if found.is_symlink():
            found.unlink(missing_ok=True)
        elif current is None or found.resolve() != current:
            shutil.rmtree(found, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink():
            continue
        sync_folder(path)


def sync_folder(path: Path) -> None:
    """fsync a folder (or file) by name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_others(place: Path, kept: Collection[str]) -> None:
    """Forget the folders below ``place`` that are not named, as far as this user may."""
    if place.is_dir():
        for path in place.iterdir():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def disk_errors(what: str, where: Path) -> Iterator[None]:
    """OSError becomes MachineError: the machine refused."""
    try:
        yield
    except OSError as error:
        remedy = "free some space" if error.errno in (28, 122) else ""
        raise MachineError(f"{what}: {error.strerror or error}", where=str(where), remedy=remedy) from error


@contextmanager
def discarded_on_error(folder: Path) -> Iterator[Path]:
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
        raise
