"""The scan host's punctuality beside cyclictest, its memory, and what an online change takes from a scan.

Host and cyclictest run at the same time with the same priority, each pinned to its own core, and change cores at half
time, so that neither has the better core. On a machine with one core they share it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.figure import Figure, pss_mb
from vplc.scan import build, change, status
from vplc.scan.errors import NotRunning

PREFIXES = ("scan_", "online_change_")
HALF_S = 15
PRIORITY = 80
WORST_US = 100_000  # cyclictest's histogram; later wake-ups are counted apart
PACKAGES = {"cyclictest": "rt-tests", "stress-ng": "stress-ng"}

# 1,000 variables: 700 rungs' worth of bits, 200 numbers, 100 timers' worth of state in ordinary use.
PROGRAM = """PROGRAM Main
VAR
  {bits} : BOOL;
  {numbers} : DINT;
  start AT %IX0.0 : BOOL;
  lamp AT %QX0.0 : BOOL;
END_VAR
{body}
lamp := b699;
END_PROGRAM
CONFIGURATION C
RESOURCE R ON PLC
TASK Cycle (INTERVAL := T#{period}ms, PRIORITY := 1);
PROGRAM P WITH Cycle : Main;
END_RESOURCE
END_CONFIGURATION
"""


@dataclass(frozen=True)
class Peer:
    """cyclictest's wake-up latencies: counts per us, and how many were late by at least a period."""

    counts: dict[int, int]
    beyond: int

    def quantile_us(self, q: float) -> float:
        total = sum(self.counts.values()) + self.beyond
        seen = 0
        for us, n in sorted(self.counts.items()):
            seen += n
            if seen >= q * total:
                return us
        return WORST_US

    def late_share(self, period_us: int) -> float:
        total = sum(self.counts.values()) + self.beyond
        return (sum(n for us, n in self.counts.items() if us >= period_us) + self.beyond) / max(total, 1)

    def skipped_share(self, period_us: int) -> float:
        """Periods that passed during late wake-ups; it skips them too, so they are no samples."""
        lost = sum(n * (us // period_us) for us, n in self.counts.items()) + self.beyond * (WORST_US // period_us)
        return lost / max(sum(self.counts.values()) + self.beyond + lost, 1)


def figures() -> Iterator[Figure]:
    build.build()
    yield from _changes()
    yield from _punctuality()


def _changes() -> Iterator[Figure]:
    """Two versions with the same variables in another order take turns; every value is moved on its own."""
    for count, changes, limit_us in ((10_000, 10, 200), (100_000, 3, 5000)):
        with tempfile.TemporaryDirectory(prefix="scan-bench-") as folder:
            taken = sorted(_change_times(Path(folder), count, changes))
        for text, value in (("p50", taken[len(taken) // 2]), ("max", taken[-1])):
            yield Figure(
                key=f"online_change_{count}_{text}",
                value=value,
                unit="us more in the scan of the change",
                goal=f"< {limit_us}",
                compared_to=f"the limit of {limit_us} us",
                ratio=value / limit_us,
            )


def _change_times(folder: Path, count: int, changes: int) -> list[float]:
    names = [f"v{i}" for i in range(count)]
    shuffled = random.Random(count).sample(names, count)
    libraries = [_large(folder, "one", names), _large(folder, "two", shuffled)]
    out = []
    core = sorted(os.sched_getaffinity(0))[-1]
    with _host(folder, {"library": str(libraries[0]), "core": core}) as (run, _, _):
        for i in range(changes):
            configuration = folder / "scan.json"
            configuration.write_text(json.dumps({"library": str(libraries[1 - i % 2]), "core": core}))
            before = status.read(run).tasks[0].execution
            verdict = change.change(run, configuration, trial_scans=20)
            if not verdict.taken_over:
                raise RuntimeError(f"the change was taken back: {verdict.reason}")
            new = status.read(run).tasks[0].execution - before
            # The first scan of the new code finds cold caches: its longest scan counts as part of the change.
            longest = max(status.bucket_range(b)[1] for b, n in enumerate(new.counts) if n)
            out.append((verdict.swap_ns + longest - (before.quantile_ns(0.5) or 0)) / 1000)
    return out


def _large(folder: Path, name: str, variables: list[str]) -> Path:
    declared = "\n".join(f"  {v} : DINT := {int(v[1:]) % 97};" for v in variables)
    sums = "\n".join(f"v{i} := v{i + 1} + 1;" for i in range(1000))
    source = folder / f"{name}.st"
    source.write_text(f"PROGRAM Main\nVAR\n{declared}\nEND_VAR\n{sums}\nEND_PROGRAM\n")
    return _build(source)


def _punctuality() -> Iterator[Figure]:
    missing = [package for tool, package in PACKAGES.items() if shutil.which(tool) is None]
    if missing:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise RuntimeError(f"the peers are missing; install them with: apt-get install {' '.join(missing)}")
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory(prefix="scan-bench-") as folder:
        for period_ms in (1, 10):
            library = _compile(Path(folder), period_ms)
            for load in ("idle", "stress"):
                yield from _beside(Path(folder), library, period_ms, load)


def _compile(folder: Path, period_ms: int) -> Path:
    rungs = [f"b{i} := (b{i - 1} AND NOT b{i * 7 % 700}) OR (start XOR b{i * 3 % 700});" for i in range(1, 700)]
    sums = [f"d{i} := d{(i + 1) % 300} + d{(i * 5) % 300} + 1;" for i in range(300)]
    text = PROGRAM.format(
        bits=", ".join(f"b{i}" for i in range(700)),
        numbers=", ".join(f"d{i}" for i in range(300)),
        body="\n".join(rungs + sums),
        period=period_ms,
    )
    source = folder / f"bench{period_ms}.st"
    source.write_text(text)
    return _build(source)


def _build(source: Path) -> Path:
    library = source.with_suffix(".so")
    command = [sys.executable, "-m", "vplc", "build", str(source), "-o", str(library)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return library


def _beside(folder: Path, library: Path, period_ms: int, load: str) -> Iterator[Figure]:
    """One period under one load: two halves with changed cores, summed up."""
    cores = sorted(os.sched_getaffinity(0))
    ours: list[status.TaskStatus] = []
    counts: dict[int, int] = {}
    beyond = 0
    memory = 0.0
    with _load(load, 2 * HALF_S + 10):
        for mine, other in ((cores[-1], cores[0]), (cores[0], cores[-1])):
            task, peer, memory = _half(folder, library, period_ms, mine, other)
            ours.append(task)
            beyond += peer.beyond
            for us, n in peer.counts.items():
                counts[us] = counts.get(us, 0) + n
    peer = Peer(counts, beyond)
    latency = _sum([t.latency for t in ours])
    execution = _sum([t.execution for t in ours])
    name = f"{period_ms}ms_{load}"
    for q, text in ((0.5, "p50"), (0.99, "p99")):
        value = (latency.quantile_ns(q) or 0) / 1000
        beside = peer.quantile_us(q) + 0.5  # it cuts to whole us
        yield Figure(
            key=f"scan_latency_{text}_{name}",
            value=value,
            unit="us",
            goal="<= 1.2 times cyclictest",
            compared_to=f"cyclictest {beside:.1f} us",
            ratio=value / beside,
        )
    yield from _lateness(ours, latency, peer, period_ms, name)
    yield Figure(key=f"scan_execution_p50_{name}", value=(execution.quantile_ns(0.5) or 0) / 1000, unit="us")
    yield Figure(key=f"scan_execution_p99_{name}", value=(execution.quantile_ns(0.99) or 0) / 1000, unit="us")
    if (period_ms, load) == (10, "idle"):
        yield Figure(key="scan_host_pss_1000_variables", value=memory, unit="MiB", goal="< 8", ratio=memory / 8)


def _lateness(
    ours: list[status.TaskStatus], latency: status.Histogram, peer: Peer, period_ms: int, name: str
) -> Iterator[Figure]:
    """Late wake-ups in cyclictest's own measure, then whole periods lost, which weighs a long gap by its length."""
    period_ns = period_ms * 1_000_000
    late = sum(n for b, n in enumerate(latency.counts) if status.bucket_range(b)[0] >= period_ns)
    value = 100 * (late + sum(t.overruns for t in ours)) / max(latency.total, 1)
    limit = 100 * peer.late_share(period_ms * 1000) + 0.1
    yield Figure(
        key=f"scan_overruns_{name}",
        value=value,
        unit="% of scans",
        goal=f"<= {limit:.3f}",
        compared_to=f"cyclictest's samples late by a period {limit - 0.1:.3f} %, plus 0.1 %",
        ratio=value / limit,
    )
    missed = sum(t.missed for t in ours)
    value = 100 * missed / max(latency.total + missed, 1)
    limit = 100 * peer.skipped_share(period_ms * 1000) + 0.1
    yield Figure(
        key=f"scan_missed_{name}",
        value=value,
        unit="% of periods",
        goal=f"<= {limit:.3f}",
        compared_to=f"cyclictest's skipped periods {limit - 0.1:.3f} %, plus 0.1 %",
        ratio=value / limit,
    )


def _sum(parts: list[status.Histogram]) -> status.Histogram:
    columns = zip(*(p.counts for p in parts), strict=True)
    return status.Histogram(tuple(map(sum, columns)), max(p.highest_ns for p in parts))


def _half(folder: Path, library: Path, period_ms: int, mine: int, other: int) -> tuple[status.TaskStatus, Peer, float]:
    channels = {
        "inputs": [{"name": "start", "address": "%IX0.0"}],
        "outputs": [{"name": "lamp", "address": "%QX0.0"}],
    }
    row = {"library": str(library), "core": mine, "priority": PRIORITY, "drivers": {"io": channels}}
    with _host(folder, row) as (run, pid, before):
        peer = _cyclictest(folder, period_ms, other)
        after = status.read(run)
        memory = pss_mb(pid) * 1e6 / 2**20
    first, last = before.tasks[0], after.tasks[0]
    task = replace(
        last,
        latency=last.latency - first.latency,
        execution=last.execution - first.execution,
        missed=last.missed - first.missed,
        overruns=last.overruns - first.overruns,
    )
    return task, peer, memory


@contextlib.contextmanager
def _host(folder: Path, row: dict[str, object]) -> Iterator[tuple[Path, int, status.Status]]:
    """A running host: its run folder, its process and its status after the first scans."""
    configuration = folder / "scan.json"
    configuration.write_text(json.dumps(row))
    run = Path(tempfile.mkdtemp(prefix="scan-bench-", dir="/dev/shm"))
    command = [sys.executable, "-m", "vplc.scan", "run", str(configuration), "--folder", str(run)]
    host = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        before = _running(run, host)
        for alarm in before.alarms:
            print(f"scan host: {alarm}", file=sys.stderr)
        yield run, host.pid, before
    finally:
        host.send_signal(signal.SIGTERM)
        host.wait(10)
        shutil.rmtree(run)


def _running(run: Path, host: subprocess.Popen[bytes]) -> status.Status:
    end = time.monotonic() + 10
    while time.monotonic() < end and host.poll() is None:
        with contextlib.suppress(NotRunning):
            found = status.read(run)
            if found.phase == "running" and found.tasks[0].scans > 20:
                return found
        time.sleep(0.05)
    raise RuntimeError(f"the scan host did not start (exit code {host.poll()})")


def _cyclictest(folder: Path, period_ms: int, core: int) -> Peer:
    out = folder / "cyclictest.txt"
    command = ["cyclictest", "-m", "-q", "-t", "1", "-a", str(core), "-p", str(PRIORITY), "-i", str(period_ms * 1000)]
    subprocess.run(
        [*command, "-D", str(HALF_S), "-h", str(WORST_US), f"--histfile={out}"], check=True, stdout=subprocess.DEVNULL
    )
    text = out.read_text()
    counts = {int(us): int(n) for us, n in re.findall(r"^(\d+)\s+(\d+)\s*$", text, re.MULTILINE) if int(n)}
    overflow = re.search(r"# Histogram Overflows:\s*(\d+)", text)
    return Peer(counts, int(overflow.group(1)) if overflow else 0)


@contextlib.contextmanager
def _load(load: str, seconds: int) -> Iterator[None]:
    """`stress` keeps all cores busy with computing, memory and system calls."""
    if load == "idle":
        yield
        return
    command = ["stress-ng", "--cpu", "0", "--timeout", f"{seconds}s", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
