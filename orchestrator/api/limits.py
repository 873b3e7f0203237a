"""How often one caller may ask: a token bucket per name, bounded in memory.

The agents' line asks it per node after the certificate was checked, so nobody can spend another's share. It refuses
to hold more than ``MOST`` names: the fullest buckets, which are those that nobody uses, are forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable

MOST = 20_000


class Limiter:
    """``rate_per_s`` over time, ``burst`` at once. For one event loop; no lock."""

    def __init__(self, *, rate_per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate_per_s, burst, clock
        self._held: dict[str, tuple[float, float]] = {}  # name -> tokens left, and when

    def wait_s(self, name: str) -> float:
        """0 when the call is allowed, which it then has used; else the seconds until one would be."""
        now = self._clock()
        left, since = self._held.get(name, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        if left < 1.0:
            self._held[name] = (left, now)
            return (1.0 - left) / self._rate
        if name not in self._held and len(self._held) >= MOST:
            self._forget(now)
        self._held[name] = (left - 1.0, now)
        return 0.0

    def _forget(self, now: float) -> None:
        full = [n for n, (left, since) in self._held.items() if left + (now - since) * self._rate >= self._burst]
        for name in full or list(self._held)[: MOST // 2]:
            del self._held[name]
