"""One measured figure, in the form that all benchmarks print."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Figure:
    """``goal`` is a text such as ``< 50``; ``ratio`` is ours / peer or limit measured in the same run, else None."""

    key: str
    value: float
    unit: str
    goal: str | None = None
    compared_to: str | None = None
    ratio: float | None = None

    def json(self) -> str:
        return json.dumps({**asdict(self), "value": round(self.value, 6)})


def pss_mb(pid: int) -> float:
    """Proportional set size of a process in MB (10**6 bytes), from the kernel's own account."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"the kernel does not tell the memory of {pid}")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, s."""
    import os

    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
