"""This node's opening key, and the secrets it opens: plain text exists in memory and nowhere else.

The key is made at enrolment and kept beside the identity (``opening.pem``, 0600); it outlives a new enrolment, so that
what was sealed for this node still opens. The executor hands over what the verified instructions hold for an instance;
each becomes one file in a folder on a file system in memory, which the runtime mounts read-only. What does not open is
refused by name, and nothing of that instance changes. Nothing here logs, returns or keeps a plain text.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from agent.folders import disk_errors, write_file
from manifests.errors import MachineError
from manifests.model import SealedSecret
from manifests.secrets import SecretPlace, fingerprint, new_key, public_key, unseal

KEY_NAME = "opening.pem"
USER_ID = 10001
_PLACES = (Path("/run"), Path("/dev/shm"))
_TMPFS, _RAMFS = 0x01021994, 0x858458F6  # linux/magic.h


def opening_key(state_folder: Path) -> bytes:
    """The node's key, made when there is none yet. Raises MachineError."""
    path = state_folder / KEY_NAME
    with disk_errors("cannot keep the node's opening key", path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            state_folder.mkdir(parents=True, exist_ok=True)
            write_file(path, new_key(), mode=0o600)
            return path.read_bytes()


def secrets_folder(state_folder: Path, instance: str, places: Sequence[Path] = _PLACES) -> Path:
    """Where an instance's secrets lie, in memory; the same for everybody who asks. Raises MachineError."""
    name = hashlib.sha256(os.fsencode(state_folder.absolute())).hexdigest()[:16]
    for place in places:
        if _in_memory(place):
            return place / f"sluice-{name}" / "secrets" / instance
    tried = ", ".join(map(str, places))
    raise MachineError("no file system in memory for secrets", where=tried, remedy="mount a tmpfs there")


class SecretKeeper:
    """Opens and lays out the secrets of one node's instances."""

    def __init__(self, state_folder: Path, site: str, node: str) -> None:
        self._state, self._site, self._node = state_folder, site, node
        self._key = opening_key(state_folder)
        self.public = public_key(self._key)
        self.fingerprint = fingerprint(self.public)

    def lay_out(self, instance: str, sealed: Sequence[SealedSecret]) -> None:
        """Make the folder hold exactly these; a file is replaced as a whole. Raises TrustError, MachineError."""
        plain = {one.name: unseal(one, self._key, self._place(instance, one)) for one in sealed}
        if not plain:
            self.forget(instance)
            return
        folder = secrets_folder(self._state, instance)
        with disk_errors("cannot lay out secrets", folder):
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.parent.parent.chmod(0o700)
            folder.mkdir(mode=0o500, exist_ok=True)
            _give(folder, 0o500)
            for name, data in plain.items():
                work = folder.parent / f".{instance}.{name}"
                work.unlink(missing_ok=True)
                descriptor = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                _give(work, 0o400)
                _writable(folder)
                work.replace(folder / name)
            _writable(folder)
            for found in folder.iterdir():
                if found.name not in plain:
                    found.unlink()
            _give(folder, 0o500)

    def holds(self, instance: str, names: Sequence[str]) -> bool:
        """Whether they are laid out; after a power cut they are not."""
        if not names:
            return True
        folder = secrets_folder(self._state, instance)
        return all((folder / name).is_file() for name in names)

    def _place(self, instance: str, sealed: SealedSecret) -> SecretPlace:
        return SecretPlace(
            site=self._site, node=self._node, instance=instance, name=sealed.name, version=sealed.version
        )

    def forget(self, instance: str) -> None:
        """Its secrets leave the memory. Harmless when it has none."""
        with contextlib.suppress(MachineError):
            folder = secrets_folder(self._state, instance)
            if folder.exists():
                with contextlib.suppress(OSError):
                    _writable(folder)
                shutil.rmtree(folder, ignore_errors=True)


def _writable(folder: Path) -> None:
    """Only a user that is not root needs to be asked."""
    if os.geteuid() != 0:
        folder.chmod(0o700)


def _give(path: Path, mode: int) -> None:
    """To the workload's user, where this one may; a process runtime runs workloads as its own."""
    if os.geteuid() == 0:
        os.chown(path, USER_ID, USER_ID)
    path.chmod(mode)


def _in_memory(place: Path) -> bool:
    class Statfs(ctypes.Structure):
        _fields_ = (("type", ctypes.c_long), ("rest", ctypes.c_char * 248))

    found = Statfs()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(place), ctypes.byref(found)) != 0:
        return False
    return found.type & 0xFFFFFFFF in (_TMPFS, _RAMFS) and os.access(place, os.W_OK)
