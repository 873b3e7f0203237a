"""The host's status block as types and JSON: what it could make itself, what it did, what went wrong."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vplc.scan.errors import NotRunning
from vplc.scan.values import Json

MAGIC = b"VPLCSTA1"
BUCKETS = 960
ALARMS = 16
HEAD = struct.Struct("<8sIIiiiIqqIIqQQQqQIIIIQII")
PAIR = struct.Struct("<4I5QII160s")
ALARM = struct.Struct("<i156s")
TASK = struct.Struct("<64sQQIIQQQQQQ")
FAULT = struct.Struct("<qqqIIII64s64s160s")
HISTOGRAM = struct.Struct(f"<{BUCKETS}Q")
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux
SIZES = {
    "status": HEAD.size + PAIR.size + ALARMS * ALARM.size,
    "pair_status": PAIR.size,
    "task_status": TASK.size + FAULT.size + 2 * HISTOGRAM.size,
    "fault_entry": FAULT.size,
    "alarm_entry": ALARM.size,
}
DUTIES = ("single", "leading", "following")
PHASES = ("starting", "running", "stopped")
FAULTS = ("none", "program", "watchdog", "signal")


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts per bucket, ns; a bucket is at most 3.2 % wide."""

    counts: tuple[int, ...]
    highest_ns: int

    @property
    def total(self) -> int:
        return sum(self.counts)

    def quantile_ns(self, q: float) -> int | None:
        """Interpolated within the bucket that holds it, never above the highest; None without samples."""
        total = self.total
        if not total:
            return None
        wanted, seen = q * total, 0
        for bucket, count in enumerate(self.counts):
            if count and seen + count >= wanted:
                low, high = bucket_range(bucket)
                return min(low + int((high - low) * max(0.0, wanted - seen) / count), self.highest_ns)
            seen += count
        return self.highest_ns

    def __sub__(self, earlier: Histogram) -> Histogram:
        """What came since; the highest stays that of the whole run."""
        return Histogram(tuple(a - b for a, b in zip(self.counts, earlier.counts, strict=True)), self.highest_ns)

    def as_json(self) -> dict[str, Json]:
        return {
            "count": self.total,
            "p50_ns": self.quantile_ns(0.5),
            "p99_ns": self.quantile_ns(0.99),
            "p999_ns": self.quantile_ns(0.999),
            "max_ns": self.highest_ns,
            "buckets": [[*bucket_range(b), n] for b, n in enumerate(self.counts) if n],
        }


def bucket_range(bucket: int) -> tuple[int, int]:
    """First and one past the last ns that fall into a bucket."""
    if bucket < 32:
        return bucket, bucket + 1
    power, step = bucket // 32 - 1, bucket % 32
    return (32 + step) << power, (33 + step) << power


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    program: str
    pou: str
    line: int
    message: str
    at_ns: int
    values: tuple[int, int]


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """`missed` periods were skipped because the wake-up came too late, `overruns` are scans longer than a period."""

    name: str
    state: str
    priority: int
    interval_ns: int
    watchdog_ns: int
    scans: int
    missed: int
    overruns: int
    execution_last_ns: int
    latency: Histogram
    execution: Histogram
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A host with a standby. `ready`: the one that follows could take over now. `misses`: frames of the leader that did
    not come in time, `misses_in_a_row` the worst of them; `fenced`: how often this host found that another leads;
    `suspended`: scans without outputs because no lease allowed them."""

    duty: str
    role: str
    epoch: int
    ready: bool
    takeovers: int
    fenced: int
    suspended: int
    frames: int
    misses: int
    misses_in_a_row: int
    reason: str


@dataclass(frozen=True, slots=True)
class Status:
    """Times named _ns are CLOCK_MONOTONIC except started_unix_ns. core and fifo_priority None: refused or not asked."""

    pid: int
    alive: bool
    phase: str
    core: int | None
    fifo_priority: int | None
    memory_locked: bool
    started_unix_ns: int
    heartbeat_age_ns: int
    unpublished: int
    retain_saves: int
    retain_failures: int
    restored: int
    version: int
    on_trial: int
    rollbacks: int
    refusals: int
    swap_ns: int
    forces: int
    pair: Pair | None
    alarms: tuple[str, ...]
    tasks: tuple[TaskStatus, ...]

    @property
    def healthy(self) -> bool:
        return self.alive and self.phase == "running" and all(t.state == "run" for t in self.tasks)

    def as_json(self) -> dict[str, Json]:
        out: dict[str, Json] = {
            name: value
            for name, value in ((n, getattr(self, n)) for n in self.__dataclass_fields__)
            if name not in ("tasks", "alarms", "pair")
        }
        tasks: list[Json] = []
        for t in self.tasks:
            row: dict[str, Json] = {
                n: getattr(t, n) for n in t.__dataclass_fields__ if n not in ("latency", "execution", "fault")
            }
            row |= {"latency": t.latency.as_json(), "execution": t.execution.as_json()}
            row["fault"] = {**asdict(t.fault), "values": list(t.fault.values)} if t.fault else None
            tasks.append(row)
        return {
            **out,
            "healthy": self.healthy,
            "pair": asdict(self.pair) if self.pair else None,
            "alarms": list(self.alarms),
            "tasks": tasks,
        }


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def parse(data: bytes, now_ns: int, alive: bool) -> Status:
    """The block as types; raises NotRunning when it is not ready or of another version."""
    if len(data) < SIZES["status"] or data[:8] != MAGIC:
        raise NotRunning("the status is not ready, or of another version of the host")
    (
        _,
        _,
        tasks,
        pid,
        core,
        priority,
        locked,
        _,
        unix,
        phase,
        alarms,
        beat,
        unpublished,
        saves,
        failures,
        _,
        restored,
        version,
        trial,
        rollbacks,
        refusals,
        swap_ns,
        forces,
        _,
    ) = HEAD.unpack_from(data)
    texts = []
    for i in range(min(alarms, ALARMS)):
        _, text = ALARM.unpack_from(data, HEAD.size + PAIR.size + i * ALARM.size)
        texts.append(_text(text))
    step = SIZES["task_status"]
    rows = [data[SIZES["status"] + i * step :][:step] for i in range(tasks)]
    return Status(
        pid=pid,
        alive=alive,
        phase=PHASES[phase] if alive or phase == 2 else "dead",
        core=core if core >= 0 else None,
        fifo_priority=priority or None,
        memory_locked=bool(locked),
        started_unix_ns=unix,
        heartbeat_age_ns=now_ns - beat,
        unpublished=unpublished,
        retain_saves=saves,
        retain_failures=failures,
        restored=restored,
        version=version,
        on_trial=trial,
        rollbacks=rollbacks,
        refusals=refusals,
        swap_ns=swap_ns,
        forces=forces,
        pair=_pair(data),
        alarms=tuple(texts),
        tasks=tuple(_task(row) for row in rows),
    )


def _pair(data: bytes) -> Pair | None:
    duty, side, epoch, ready, takeovers, fenced, suspended, frames, misses, row, _, reason = PAIR.unpack_from(
        data, HEAD.size
    )
    if not duty:
        return None
    role = "standby" if side else "primary"
    return Pair(
        DUTIES[duty], role, epoch, bool(ready), takeovers, fenced, suspended, frames, misses, row, _text(reason)
    )


def _task(data: bytes) -> TaskStatus:
    name, interval, watchdog, priority, state, scans, missed, overruns, latency, execution, last = TASK.unpack_from(
        data
    )
    at_ns, a, b, kind, _, line, _, program, pou, text = FAULT.unpack_from(data, TASK.size)
    at = TASK.size + FAULT.size
    fault = None
    if state == 2:  # the state is written last
        fault = Fault(FAULTS[kind], _text(program), _text(pou), line, _text(text), at_ns, (a, b))
    return TaskStatus(
        _text(name),
        "fault" if state == 2 else "run",
        priority,
        interval,
        watchdog,
        scans,
        missed,
        overruns,
        last,
        Histogram(HISTOGRAM.unpack_from(data, at), latency),
        Histogram(HISTOGRAM.unpack_from(data, at + HISTOGRAM.size), execution),
        fault,
    )


def running_in(folder: Path) -> bool:
    """Whether a host holds the run folder. The lock ends with its process, however that ends."""
    return locked(folder / "lock")


def locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def read(folder: Path) -> Status:
    """The status of the host in a run folder, also of one that ended. Raises NotRunning when there never was one."""
    try:
        data = (folder / "status").read_bytes()
    except OSError as error:
        raise NotRunning(f"{folder}: there is no scan host") from error
    return parse(data, time.monotonic_ns(), running_in(folder))


def render(status: Status) -> str:
    """For people, one screen."""
    core = "any core" if status.core is None else f"core {status.core}"
    fifo = f"FIFO {status.fifo_priority}" if status.fifo_priority else "ordinary scheduling"
    locked = "memory locked" if status.memory_locked else "memory not locked"
    out = [f"{status.phase}, pid {status.pid}, {core}, {fifo}, {locked}"]
    if status.pair:
        p = status.pair
        ready = "a standby is ready" if p.duty == "leading" else "ready to take over"
        ready = ready if p.ready else f"not {ready}" if p.duty == "following" else "no standby is ready"
        out.append(f"{p.role}, {p.duty} in epoch {p.epoch}, {ready}: {p.reason}")
        out.append(f"took over {p.takeovers} times, fenced {p.fenced} times, missed {p.misses} frames")
    if status.forces:
        out.append(f"FORCED: {status.forces} values are held")
    out.extend(f"ALARM: {a}" for a in status.alarms)
    head = f"{'task':16} {'state':6} {'every':>9} {'scans':>10} {'missed':>7} {'overrun':>7}"
    out.append(f"{head}   latency p50/p99/max us    scan p50/p99/max us")
    for t in status.tasks:
        row = f"{t.name:16} {t.state:6} {t.interval_ns / 1e6:6.2f} ms {t.scans:10} {t.missed:7} {t.overruns:7}"
        out.append(f"{row}   {_row(t.latency):>23}    {_row(t.execution):>19}")
        if t.fault:
            where = f"{t.fault.pou}, line {t.fault.line}: " if t.fault.pou else ""
            out.append(f"  FAULT in {t.fault.program}: {where}{t.fault.message}")
    return "\n".join(out)


def _row(histogram: Histogram) -> str:
    parts: Sequence[int | None] = (histogram.quantile_ns(0.5), histogram.quantile_ns(0.99), histogram.highest_ns)
    return "/".join("-" if p is None else f"{p / 1000:.1f}" for p in parts)
