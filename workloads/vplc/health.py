"""How a virtual PLC is, in two words and a sentence, and the numbers it is measured by. Pure.

The telemetry asks with the host's status block and the keeper's list of processes. A task in fault fails the workload
when no task is left, else it is degraded; what the machine refused (SCHED_FIFO, locked memory) is an alarm in the
detail and no failure: the health gate judges by the measured jitter, not by the means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manifests.messages import DeviceStatus, State
from vplc.drivers.turn import OTHERS
from vplc.scan.status import Histogram, Pair, Status, TaskStatus
from workloads.vplc.arrange import DRIVER, HOST, SERVER

WINDOW_S = 60.0  # latency is that of the last minute: what was late an hour ago is history
SNAPSHOT_S = 5.0


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One line of the keeper's state; ``pid`` 0: it waits to be started again. ``since_ms`` is CLOCK_MONOTONIC."""

    name: str
    pid: int
    restarts: int
    end: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    reason: str
    detail: str = ""


def parse_processes(text: str) -> dict[str, ProcessState]:
    """The keeper's state file; lines it was just writing are left out."""
    found = {}
    for line in text.splitlines():
        parts = line.split("\t")
        if len(parts) == 5 and parts[1].isdigit() and parts[2].isdigit() and parts[4].isdigit():
            name, pid, restarts, end, since = parts
            found[name] = ProcessState(name, int(pid), int(restarts), "" if end == "-" else end, int(since))
    return found


def judge(found: Status | None, processes: Mapping[str, ProcessState], problem: str, forced: Sequence[str]) -> Verdict:
    """``problem``: why the host does not come up, where somebody knows; ``forced``: paths that are held."""
    if found is None or not found.alive or found.phase != "running":
        host = processes.get(HOST)
        ended = f"ended with {host.end}" if host is not None and host.end else "has not scanned yet"
        if found is None and not problem and (host is None or not host.restarts):
            return Verdict(State.STARTING, "HostStarting", f"the scan host {ended}")
        return Verdict(State.FAILED, "HostDown", problem or f"the scan host {ended}")
    remarks = [f"alarm: {alarm}" for alarm in found.alarms]
    if found.pair is not None:
        remarks.insert(0, _duty(found.pair))
        if found.pair.duty == "following" and not found.pair.ready:
            return Verdict(State.RUNNING, "Degraded", "; ".join(remarks))
    if forced:
        remarks.insert(0, f"forced: {', '.join(forced)}")
    faulted = [task for task in found.tasks if task.state != "run"]
    if faulted:
        text = "; ".join([*map(_fault, faulted), *remarks])
        if len(faulted) == len(found.tasks):
            return Verdict(State.FAILED, "TaskFault", text)
        return Verdict(State.RUNNING, "Degraded", text)
    if found.retain_failures:
        remarks.insert(0, f"retained values could not be saved {found.retain_failures} times")
        return Verdict(State.RUNNING, "Degraded", "; ".join(remarks))
    return Verdict(State.RUNNING, "Ok", "; ".join(remarks))


def _duty(pair: Pair) -> str:
    if pair.duty == "following":
        return "standby, ready" if pair.ready else f"standby, not ready: {pair.reason}"
    return f"leads, epoch {pair.epoch}, {'a standby is ready' if pair.ready else 'no standby is ready'}"


def _fault(task: TaskStatus) -> str:
    if task.fault is None:
        return f"task {task.name} is in fault"
    where = f" {task.fault.pou}, line {task.fault.line}:" if task.fault.pou else ""
    return f"task {task.name} is in fault: {task.fault.program}:{where} {task.fault.message}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The latency counts of one moment; two of them give the latencies between."""

    at_s: float
    life: tuple[int, int]  # pid and start: counts begin anew with each host
    latency: tuple[Histogram, ...]


class Window:
    """Latencies of about the last minute."""

    def __init__(self) -> None:
        self._kept: list[Snapshot] = []

    def latest(self, found: Status, now_s: float) -> tuple[Histogram, ...]:
        """Per task, since the oldest snapshot of this host that is kept."""
        life = (found.pid, found.started_unix_ns)
        latency = tuple(task.latency for task in found.tasks)
        self._kept = [one for one in self._kept if one.life == life and now_s - one.at_s <= WINDOW_S]
        oldest = self._kept[0].latency if self._kept else ()
        if not self._kept or now_s - self._kept[-1].at_s >= SNAPSHOT_S:
            self._kept.append(Snapshot(now_s, life, latency))
        if len(oldest) != len(latency) or not any(one.total for one in oldest):
            return latency
        return tuple(now - then for now, then in zip(latency, oldest, strict=True))


def measures(found: Status, latency: Sequence[Histogram], processes: Mapping[str, ProcessState]) -> dict[str, float]:
    """For metrics and the rollout's health gate: microseconds, counts, and 0 or 1 for what was granted."""
    tasks = found.tasks
    host = processes.get(HOST)
    out: dict[str, float] = {
        "scans": sum(task.scans for task in tasks),
        "missed": sum(task.missed for task in tasks),
        "overruns": sum(task.overruns for task in tasks),
        "faults": sum(1 for task in tasks if task.state != "run"),
        "host_restarts": host.restarts if host is not None else 0,
        "rollbacks": found.rollbacks,
        "forces": found.forces,
        "retain_saves": found.retain_saves,
        "retain_failures": found.retain_failures,
        "unpublished": found.unpublished,
        "fifo": float(found.fifo_priority is not None),
        "memory_locked": float(found.memory_locked),
        "alarms": len(found.alarms),
    }
    if found.pair is not None:
        out |= {
            "pair_leads": float(found.pair.duty == "leading"),
            "pair_ready": float(found.pair.ready),
            "pair_epoch": found.pair.epoch,
            "pair_takeovers": found.pair.takeovers,
            "pair_fenced": found.pair.fenced,
            "pair_misses": found.pair.misses,
        }
    worst = {
        "wake_p50_us": _worst(latency, 0.5),
        "wake_p99_us": _worst(latency, 0.99),
        "jitter_p999_us": _worst(latency, 0.999),
        "execution_p99_us": _worst([task.execution for task in tasks], 0.99),
        "execution_max_us": max((task.execution.highest_ns for task in tasks), default=0) / 1000,
    }
    return out | {name: value for name, value in worst.items() if value is not None}


def _worst(histograms: Sequence[Histogram], quantile: float) -> float | None:
    found = [value for value in (one.quantile_ns(quantile) for one in histograms) if value is not None]
    return max(found) / 1000 if found else None


_DRIVER_STATES = {
    "running": (State.RUNNING, "Ok"),
    "degraded": (State.FAILED, "Degraded"),
    "failed": (State.FAILED, "Unreachable"),
    "silent": (State.FAILED, "Silent"),
    "stopped": (State.FAILED, "Stopped"),
    "connecting": (State.STARTING, "Connecting"),
    "waiting": (State.WAITING, "NoHost"),
}


def neighbours(
    processes: Mapping[str, ProcessState], drivers: Sequence[Mapping[str, Any]], now_ms: int, now_ns: int
) -> tuple[DeviceStatus, ...]:
    """Drivers and servers: a driver by what it says of its device (``vplc.drivers.status``), any of them as failed
    while its process is down."""
    said = {str(row["name"]): row for row in drivers}
    out = []
    for process in processes.values():
        if not process.name.startswith((DRIVER, SERVER)):
            continue
        since_ns = now_ns - (now_ms - process.since_ms) * 1_000_000
        state, reason, detail = State.RUNNING, "Ok", ""
        name = process.name.removeprefix(DRIVER)
        row = said.get(name) if process.name.startswith(DRIVER) else None
        if not process.pid:
            state, reason, detail = State.FAILED, "Exited", f"ended with {process.end}; is started again"
        elif row is not None and row.get("pid") == process.pid:
            state, reason = _DRIVER_STATES.get(str(row["state"]), (State.FAILED, "Unknown"))
            if row["reason"] == OTHERS:
                state, reason = State.RUNNING, "Ok"  # as it should be: this one stands by
            detail = f"{row['device']}: {row['reason']}" if row["reason"] else str(row["device"])
            since_ns = int(row["since_unix_ns"])
        out.append(DeviceStatus(name=name, state=state, reason=reason, since_ns=since_ns, detail=detail[:500]))
    return tuple(out)
