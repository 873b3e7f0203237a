"""Small lists that people at a node say through the command line: ``consent`` and ``holdbook`` keep theirs here.

A list is one JSON file, replaced as a whole. What cannot be read is an error, never an empty list: what follows from
a damaged file (nothing consented, everything held) is the caller's to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from agent.folders import disk_errors, write_file
from manifests.errors import MachineError

MAX_BYTES = 256 << 10
Said = TypeVar("Said", bound=msgspec.Struct)


def read(path: Path, kind: type[Said], *, noun: str, remedy: str) -> tuple[Said, ...]:
    """Empty when there is no file. Raises MachineError for one that cannot be read."""
    with disk_errors(f"cannot read the {noun}s", path):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return ()
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        found: tuple[Said, ...] = msgspec.json.decode(data, type=tuple[kind, ...])  # type: ignore[valid-type]  # a type made at run time
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MachineError(f"cannot be read: {error}", where=str(path), remedy=remedy) from error
    return found


def write(path: Path, said: Sequence[msgspec.Struct], *, noun: str) -> None:
    """Raises MachineError."""
    with disk_errors(f"cannot keep the {noun}", path):
        write_file(path, msgspec.json.format(msgspec.json.encode(list(said)), indent=1))
