"""What instances keep on this node's disk, against what they may: measured, told and counted.

Called by ``upkeep`` once a minute; ``status`` puts it into words. No instance is stopped for it, and none of class
control is even called degraded: what it keeps are retained values, bounded by its program. The folder has no quota of
the file system's: that would need one prepared for it on every node, and a write that fails where a workload keeps its
baseline is no gain. What the limit is for: the same disk holds the samples that were acknowledged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MOST_ENTRIES = 200_000  # of one instance; a folder with more is over its limit whatever they hold
REASON = "KeptFull"
MEASURE = "kept_bytes"
_BLOCK = 512  # of st_blocks, whatever the file system's own is (stat(2))


@dataclass(frozen=True, slots=True)
class Kept:
    """``folder`` has one folder per instance; each may take ``cap_bytes``."""

    folder: Path
    cap_bytes: int

    def measure(self) -> Mapping[str, int]:
        """Bytes on disk by instance; blocking. What cannot be read counts as nothing."""
        try:
            names = [entry.name for entry in os.scandir(self.folder) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return {}
        return {name: self._size(self.folder / name) for name in names}

    def _size(self, top: Path) -> int:
        total, seen = 0, 0
        waiting = [str(top)]
        while waiting:
            try:
                with os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        seen += 1
                        if seen > MOST_ENTRIES:
                            return max(total, self.cap_bytes + 1)
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
            except OSError:
                continue  # gone meanwhile, or not ours to read
        return total


def overfull(size: int, cap: int) -> str:
    """Why an instance keeps too much; empty when it does not."""
    if size <= cap:
        return ""
    return f"it keeps {size >> 20} MiB on this node's disk; {cap >> 20} MiB are allowed (kept.capMb in agent.yaml)"
