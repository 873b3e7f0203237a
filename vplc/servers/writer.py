"""Writing on behalf of a client: only what the configuration grants, all of one request between the same two scans, and
every value noted in the journal with who wrote it and what was there before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vplc.scan import journal
from vplc.scan.access import Access
from vplc.scan.values import Json


class Writer:
    """One per server: requests are carried out one after the other, in a thread of their own."""

    def __init__(self, folder: Path, via: str, timeout_s: float = 5.0) -> None:
        """`via` names the way a value came, for the journal."""
        self._folder, self._via, self._timeout_s = folder, via, timeout_s
        self._thread = ThreadPoolExecutor(1, "write")
        self._access: Access | None = None

    async def write(self, who: str, changes: Mapping[str, Json], before: Mapping[str, Json]) -> None:
        """Raises Refused or NotRunning; nothing is written then."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, who, changes, before)

    def _write(self, who: str, changes: Mapping[str, Json], before: Mapping[str, Json]) -> None:
        if self._access is None:
            self._access = Access(self._folder, who)
        self._access.write(changes, self._timeout_s)
        for path, value in changes.items():
            detail: dict[str, Json] = {"path": path, "value": value, "before": before.get(path), "via": self._via}
            journal.note(self._folder, who, "write", detail)

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        if self._access is not None:
            self._access.close()
