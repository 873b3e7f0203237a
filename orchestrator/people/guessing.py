"""Slows people who guess passwords and codes: failures are counted per caller and per user, in memory, for a while."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

SECOND_NS = 1_000_000_000
WINDOW_NS = 300 * SECOND_NS
PER_CALLER = 10  # failures per address and window
PER_USER = 100  # failures per user and window: slows a guess from many addresses


class TooManyTriesError(Exception):
    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Guessing:
    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._failures: dict[str, deque[int]] = {}
        self._lock = threading.Lock()

    def check(self, caller: str, user: str) -> None:
        """Raises TooManyTriesError."""
        now_ns = self._now_ns()
        with self._lock:
            for key, limit in ((f"caller {caller}", PER_CALLER), (f"user {user[:100]}", PER_USER)):
                times = self._failures.get(key)
                while times and now_ns - times[0] > WINDOW_NS:
                    times.popleft()
                if times and len(times) >= limit:
                    raise TooManyTriesError(int((WINDOW_NS - (now_ns - times[0])) / SECOND_NS) + 1)

    def failed(self, caller: str, user: str) -> bool:
        """Count a failure; True when this one reached the caller's limit."""
        now_ns = self._now_ns()
        with self._lock:
            if len(self._failures) > 10_000:
                self._failures = {k: t for k, t in self._failures.items() if t and now_ns - t[-1] <= WINDOW_NS}
            for key in (f"caller {caller}", f"user {user[:100]}"):
                self._failures.setdefault(key, deque(maxlen=PER_USER)).append(now_ns)
            return len(self._failures[f"caller {caller}"]) == PER_CALLER
