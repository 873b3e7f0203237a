"""Where records come from: one module per way in, all with the same promise to ``monitor``.

    config     what a source is told: address, rate, unit, speed       opcua      arrays and YArrayItems
    arrival    what came, made into a record or refused                mqtt       binary, JSON, Sparkplug B
    payload    bytes and registers into samples (pure)                 modbus     blocks of registers
    block      the binary record with its header (pure)                spool      files in a folder
    sparkplug  as much of Sparkplug B as samples need (pure)           tacho      pulses into speed
    line       where it is reached, with what secret; connecting again

A source hands over a function that makes the record: decoding happens where judging does, one record at a time, and
what cannot be decoded is refused there by name and place, counted, and the stream goes on. Nothing here writes to a
device but ``modbus`` its freeze register, where the signed release grants it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from workloads.vibration.sources.arrival import Taken

Make = Callable[[], Taken]


class Report(Protocol):
    """What a source tells of itself."""

    async def offer(self, name: str, make: Make) -> None:
        """A record called ``name``; returns once it was judged or refused. ``make`` runs in a thread."""

    def refuse(self, name: str, why: str) -> None:
        """Something came that is no record."""

    def lost(self, count: int, why: str) -> None:
        """Records that never came, or came while there was no room."""

    def reached(self) -> None:
        """The far side answers, even if there is no record yet."""

    def unreachable(self, why: str) -> None: ...


class Source(Protocol):
    async def run(self, report: Report) -> None:
        """Until cancelled; reconnects by itself."""
