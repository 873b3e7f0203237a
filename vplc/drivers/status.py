"""What a driver says about itself: one JSON file in the run folder, replaced atomically.

Written by the drivers, read by whatever supervises them. A driver that was killed leaves its last file; `read` tells
by its process and its age that nobody is behind it any more.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from vplc.scan.values import Json

FORMAT = "vplc.driver/1"
WRITE_EVERY_S = 1.0
SILENT_AFTER_S = 5.0
_KEPT = 1024  # round trips that the quantiles are of


class State(Enum):
    WAITING = "waiting"  # no scan host yet
    CONNECTING = "connecting"
    RUNNING = "running"
    DEGRADED = "degraded"  # the device answers, but not everything it is asked
    FAILED = "failed"  # no contact
    STOPPED = "stopped"


def path_of(folder: Path, name: str) -> Path:
    return folder / f"driver.{name}.json"


@dataclass(slots=True)
class Group:
    """Channels that fare alike: one read, one span of outputs, one subscription."""

    what: str
    good: bool = False
    why: str = "not asked yet"

    def as_json(self) -> dict[str, Json]:
        return {"what": self.what, "good": self.good, "why": self.why}


@dataclass(slots=True)
class Status:
    """Counters only grow. `publish` writes the file when something changed for people, else once a second."""

    folder: Path
    name: str
    kind: str
    device: str
    granted: bool
    state: State = State.WAITING
    reason: str = "starting"
    since_ns: int = field(default_factory=time.time_ns)
    outputs: str = "not written yet"
    groups: list[Group] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    _trips: list[float] = field(default_factory=list)
    _written_s: float = 0.0
    _shown: tuple[object, ...] = ()

    def count(self, name: str, n: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + n

    def trip(self, seconds: float) -> None:
        """A round trip to the device."""
        if len(self._trips) >= _KEPT:
            del self._trips[: _KEPT // 2]
        self._trips.append(seconds)

    def show(self, state: State, reason: str = "") -> None:
        if (state, reason) != (self.state, self.reason):
            if state is not self.state:
                self.since_ns = time.time_ns()
            self.state, self.reason = state, reason

    def publish(self, now_s: float, force: bool = False) -> None:
        shown = (self.state, self.reason, self.outputs, *((g.good, g.why) for g in self.groups))
        if not force and shown == self._shown and now_s - self._written_s < WRITE_EVERY_S:
            return
        self._shown, self._written_s = shown, now_s
        path = path_of(self.folder, self.name)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            fresh.write_text(json.dumps(self.as_json()), "utf-8")
            fresh.rename(path)
        except OSError:
            pass  # a status that cannot be written must not end the driver; readers see its age

    def as_json(self) -> dict[str, Json]:
        trips = sorted(self._trips)

        def quantile(q: float) -> Json:
            return round(trips[min(len(trips) - 1, int(q * len(trips)))] * 1e6, 1) if trips else None

        return {
            "format": FORMAT,
            "name": self.name,
            "kind": self.kind,
            "pid": os.getpid(),
            "device": self.device,
            "write": self.granted,
            "state": self.state.value,
            "reason": self.reason,
            "since_unix_ns": self.since_ns,
            "updated_unix_ns": time.time_ns(),
            "outputs": self.outputs,
            "counters": dict(self.counters),
            "round_trip_us": {"p50": quantile(0.5), "p99": quantile(0.99), "max": quantile(1.0)},
            "groups": [g.as_json() for g in self.groups],
        }


def read(folder: Path) -> list[dict[str, Json]]:
    """The status of every driver that has ever run in the folder, by name. `alive` is whether it still does: what a
    dead driver said last is shown as state "silent"."""
    out: list[dict[str, Json]] = []
    # A file that is just being replaced may be missing from a listing; the driver's lock is always there.
    names = {p.name.removeprefix("driver.").rpartition(".")[0] for p in folder.glob("driver.*")}
    for name in sorted(names):
        try:
            row = json.loads(path_of(folder, name).read_bytes())
        except (OSError, ValueError):
            continue
        if not isinstance(row, dict) or row.get("format") != FORMAT:
            continue
        age_s = (time.time_ns() - int(row["updated_unix_ns"])) / 1e9
        alive = _runs(int(row["pid"])) and age_s < SILENT_AFTER_S
        if not alive and row["state"] != State.STOPPED.value:
            row["reason"] = f"no sign of life for {age_s:.0f} s; the last was: {row['state']}, {row['reason']}"
            row["state"] = "silent"
        out.append({**row, "alive": alive})
    return out


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def worst(rows: Sequence[dict[str, Json]]) -> str:
    """The state that says most about all drivers together."""
    order = ("silent", "failed", "degraded", "connecting", "waiting", "stopped", "running")
    found = {str(r["state"]) for r in rows}
    return next((s for s in order if s in found), "running")
