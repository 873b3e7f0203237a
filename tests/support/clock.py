"""Time as a value: starts where it is told, moves when it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass
class ManualClock:
    """``now()`` for wall time, ``monotonic()`` for durations, both in step."""

    start: datetime = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
    passed_s: float = field(default=0.0)

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.passed_s)

    def now_ns(self) -> int:
        return int(self.now().timestamp() * 1_000_000_000)

    def monotonic(self) -> float:
        return self.passed_s

    def advance(self, seconds: float) -> None:
        self.passed_s += seconds
