"""What must survive a restart: baselines, alarm states, what was acknowledged. One file, replaced as a whole.

Called by ``monitor``. A file that cannot be read is put aside and learning begins anew: a lost baseline costs a week,
a workload that does not start costs the machine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from workloads.vibration.asset import Asset

log = logging.getLogger("vibration.remembered")

NAME = "assets.msgpack"
VERSION = 1
MAX_BYTES = 64 << 20


class _File(msgspec.Struct, frozen=True):
    version: int
    assets: dict[str, Asset]


def load(folder: Path) -> Mapping[str, Asset]:
    """By machine name; empty when there is none yet."""
    path = folder / NAME
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        found = msgspec.msgpack.decode(path.read_bytes(), type=_File)
        if found.version != VERSION:
            raise ValueError(f"version {found.version}, not {VERSION}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.error("what was learnt cannot be read: learning anew", extra={"file": str(path), "error": str(error)})
        try:
            path.replace(path.with_suffix(".unreadable"))
        except OSError:
            pass  # the next one written replaces it
        return {}
    return found.assets


def save(folder: Path, assets: Mapping[str, Asset]) -> None:
    """All or nothing, also when the power goes. Raises OSError."""
    part = folder / f".{NAME}"
    with part.open("wb") as out:
        out.write(msgspec.msgpack.encode(_File(VERSION, dict(assets))))
        out.flush()
        os.fsync(out.fileno())
    part.replace(folder / NAME)
