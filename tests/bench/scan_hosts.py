"""Real scan hosts, cyclictest and load for the benchmarks of the scan."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vplc.scan import status
from vplc.scan.errors import NotRunning

PRIORITY = 80
WORST_US = 100_000  # cyclictest's histogram; later wake-ups are counted apart
CHANNELS = {
    "inputs": [{"name": "start", "address": "%IX0.0"}],
    "outputs": [{"name": "lamp", "address": "%QX0.0"}],
}
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


def compile_1000(folder: Path, period_ms: int) -> Path:
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
    return build_program(source)


def build_program(source: Path) -> Path:
    library = source.with_suffix(".so")
    command = [sys.executable, "-m", "vplc", "build", str(source), "-o", str(library)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return library


def total(parts: list[status.Histogram]) -> status.Histogram:
    columns = zip(*(p.counts for p in parts), strict=True)
    return status.Histogram(tuple(map(sum, columns)), max(p.highest_ns for p in parts))


@contextlib.contextmanager
def host(folder: Path, row: dict[str, object]) -> Iterator[tuple[Path, int, status.Status]]:
    """A running host: its run folder, its process and its status after the first scans."""
    configuration = folder / "scan.json"
    configuration.write_text(json.dumps(row))
    run = Path(tempfile.mkdtemp(prefix="scan-bench-", dir="/dev/shm"))
    command = [sys.executable, "-m", "vplc.scan", "run", str(configuration), "--folder", str(run)]
    host = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        before = running(run, host)
        for alarm in before.alarms:
            print(f"scan host: {alarm}", file=sys.stderr)
        yield run, host.pid, before
    finally:
        host.send_signal(signal.SIGTERM)
        host.wait(10)
        shutil.rmtree(run)


def running(run: Path, host: subprocess.Popen[bytes]) -> status.Status:
    end = time.monotonic() + 10
    while time.monotonic() < end and host.poll() is None:
        with contextlib.suppress(NotRunning):
            found = status.read(run)
            if found.phase == "running" and found.tasks[0].scans > 20:
                return found
        time.sleep(0.05)
    raise RuntimeError(f"the scan host did not start (exit code {host.poll()})")


def cyclictest(folder: Path, period_ms: int, core: int, seconds: int) -> Peer:
    out = folder / "cyclictest.txt"
    command = ["cyclictest", "-m", "-q", "-t", "1", "-a", str(core), "-p", str(PRIORITY), "-i", str(period_ms * 1000)]
    subprocess.run(
        [*command, "-D", str(seconds), "-h", str(WORST_US), f"--histfile={out}"], check=True, stdout=subprocess.DEVNULL
    )
    text = out.read_text()
    counts = {int(us): int(n) for us, n in re.findall(r"^(\d+)\s+(\d+)\s*$", text, re.MULTILINE) if int(n)}
    overflow = re.search(r"# Histogram Overflows:\s*(\d+)", text)
    return Peer(counts, int(overflow.group(1)) if overflow else 0)


@contextlib.contextmanager
def load(kind: str, seconds: int) -> Iterator[None]:
    """`stress` keeps all cores busy with computing, memory and system calls."""
    if kind == "idle":
        yield
        return
    command = ["stress-ng", "--cpu", "0", "--timeout", f"{seconds}s", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
