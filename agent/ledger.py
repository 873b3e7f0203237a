"""What an agent remembers across restarts, one small JSON file per noun, written so that a crash leaves old or new.

``write_atomic`` is used by everything in the agent that keeps a file. The ledger itself holds the desired state that
was adopted last: the agent boots from the verified metadata (``verify.TrustStore``) and falls back on the ledger when
those files are damaged, because a plant that stands still is worse than a second copy in the same protected folder.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from agent.folders import clear_leftovers, disk_errors, write_file
from manifests.model import DesiredState

FILE_NAME = "ledger.json"


class LedgerPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that is remembered."""

    desired: DesiredState | None = None
    format: str = "sluice.ledger/1"


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace ``path`` so that a crash at any moment leaves the old or the new content. Raises MachineError."""
    with disk_errors("cannot write", path):
        write_file(path, data, mode=mode)


class Ledger:
    """Read and written by the loop only."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        clear_leftovers(self._path)

    def read(self) -> LedgerPage:
        """An empty page when there is none, or when it cannot be read: it is a second copy, never a reason to stop."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=LedgerPage)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return LedgerPage()

    def write(self, page: LedgerPage) -> None:
        """Raises MachineError when the disk refuses."""
        write_atomic(self._path, msgspec.json.encode(page))
