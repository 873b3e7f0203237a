"""Is this channel another machine's signal? The beginning of every machine's last record, compared.

Called by ``watch``. A cable in the wrong socket, or one channel configured twice, makes two machines of one: both
then alarm together, and one of them is not watched at all. A warning only; cheap, for it runs with every record.
"""

from __future__ import annotations

import numpy as np

from workloads.vibration.quality import Finding, duplicates
from workloads.vibration.record import Array, Record

COMPARED = 4096  # samples; equal over so many is no chance


class Twins:
    """Remembers the beginning of one record per machine."""

    def __init__(self) -> None:
        self._begins: dict[str, tuple[Array, float, int]] = {}

    def look(self, name: str, record: Record) -> list[Finding]:
        """Findings on ``name``, whose record is remembered; only records of one time are compared."""
        begin = np.array(record.samples[:COMPARED], dtype=np.float32)
        start_ns = record.start_ns or 0
        self._begins[name] = (begin, record.rate_hz, start_ns)
        near_ns = int(record.seconds * 1e9)
        found = []
        for other, (their, rate_hz, their_ns) in self._begins.items():
            if other != name and rate_hz == record.rate_hz and abs(their_ns - start_ns) <= near_ns:
                found += duplicates([begin, their], [name, other])
        return found
