"""Nodes that come back long after their certificate ended, and who lets them: ``sluice site renew``.

The node proves that it holds the old key; up to a set age that is enough. Past it somebody must say that the machine
is still the plant's: it may have been sold. In memory only: nodes ask again and again, so a restart of the centre
costs a minute, and an approval that nobody used ends by itself. Thread-safe; it decides nothing else.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

GOOD_NS = 24 * 3600 * 1_000_000_000
KEPT = 10_000  # as many nodes as may wait at once


@dataclass(frozen=True, slots=True)
class Late:
    """``caller``: the address it asked from last. ``by`` and ``why``: of whoever let it; empty while it waits."""

    site: str
    node: str
    serial: str
    ended_ns: int
    asked_ns: int
    caller: str
    by: str = ""
    why: str = ""
    let_ns: int = 0


class Renewals:
    def __init__(self) -> None:
        self._late: dict[str, Late] = {}  # by serial
        self._lock = threading.Lock()

    def ask(self, asked: Late) -> tuple[Late, bool]:
        """What is known of it now, and whether it is new. Whoever was let is let once."""
        with self._lock:
            known = self._late.get(asked.serial)
            if known is not None and known.by and asked.asked_ns - known.let_ns < GOOD_NS:
                del self._late[asked.serial]
                return known, False
            if known is None and len(self._late) >= KEPT:
                del self._late[next(iter(self._late))]
            self._late[asked.serial] = asked
            return asked, known is None

    def waiting(self, site: str) -> list[Late]:
        with self._lock:
            return sorted((one for one in self._late.values() if one.site == site), key=lambda one: one.node)

    def let(self, site: str, node: str, *, by: str, why: str, now_ns: int) -> Late | None:
        """None when no such node asks."""
        with self._lock:
            found = next((one for one in self._late.values() if (one.site, one.node) == (site, node)), None)
            if found is None:
                return None
            self._late[found.serial] = replace(found, by=by, why=why, let_ns=now_ns)
            return self._late[found.serial]
