"""The scan host's punctuality beside cyclictest, its memory, and what a container changes.

Host and cyclictest run at the same time, on the same core, with the same priority, in slices that take turns between
the cores: what the machine's owner or a neighbour does to one, it does to the other. On cores of their own a single
stall of 150 ms on one of them decided the 99th percentile of a run of 10 ms scans, for or against the host. Both start
anew in every slice, because where a period lies between the kernel's ticks (every 4 ms) moves its median by a quarter.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.bench.figure import Figure, pss_mb
from tests.bench.scan_hosts import (
    CHANNELS,
    PACKAGES,
    PRIORITY,
    Peer,
    compile_1000,
    cyclictest,
    host,
    load,
    running,
    total,
)
from vplc.scan import build, status

PREFIXES = ("scan_",)
SLICES = 8
SLICE_S = 4


def figures() -> Iterator[Figure]:
    build.build()
    yield from _punctuality()
    yield from _container()


def _punctuality() -> Iterator[Figure]:
    missing = [package for tool, package in PACKAGES.items() if shutil.which(tool) is None]
    if missing:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise RuntimeError(f"the peers are missing; install them with: apt-get install {' '.join(missing)}")
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory(prefix="scan-bench-") as folder:
        for period_ms in (1, 10):
            library = compile_1000(Path(folder), period_ms)
            for kind in ("idle", "stress"):
                yield from _beside(Path(folder), library, period_ms, kind)


def _beside(folder: Path, library: Path, period_ms: int, kind: str) -> Iterator[Figure]:
    """One period under one load, all slices summed up."""
    cores = sorted(os.sched_getaffinity(0))
    ours: list[status.TaskStatus] = []
    counts: dict[int, int] = {}
    beyond = 0
    memory = 0.0
    with load(kind, SLICES * (SLICE_S + 5)):
        for i in range(SLICES):
            task, peer, memory = _slice(folder, library, period_ms, cores[i % len(cores)])
            ours.append(task)
            beyond += peer.beyond
            for us, n in peer.counts.items():
                counts[us] = counts.get(us, 0) + n
    peer = Peer(counts, beyond)
    latency = total([t.latency for t in ours])
    execution = total([t.execution for t in ours])
    name = f"{period_ms}ms_{kind}"
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
    if (period_ms, kind) == (10, "idle"):
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


def _slice(folder: Path, library: Path, period_ms: int, core: int) -> tuple[status.TaskStatus, Peer, float]:
    row = {"library": str(library), "core": core, "priority": PRIORITY, "drivers": {"io": CHANNELS}}
    with host(folder, row) as (run, pid, before):
        peer = cyclictest(folder, period_ms, core, SLICE_S)
        after = status.read(run)
        memory = pss_mb(pid) * 1e6 / 2**20
    return _since(before, after), peer, memory


def _since(before: status.Status, after: status.Status) -> status.TaskStatus:
    first, last = before.tasks[0], after.tasks[0]
    return replace(
        last,
        latency=last.latency - first.latency,
        execution=last.execution - first.execution,
        missed=last.missed - first.missed,
        overruns=last.overruns - first.overruns,
    )


def _container() -> Iterator[Figure]:
    """The same host in a container and outside, at the same time on the same core."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        print("scan_container_*: no container engine answers here", file=sys.stderr)
        return
    cores = sorted(os.sched_getaffinity(0))
    inside: list[status.TaskStatus] = []
    outside: list[status.TaskStatus] = []
    with tempfile.TemporaryDirectory(prefix="scan-bench-") as made, _real_time_share():
        folder = Path(made)
        library = compile_1000(folder, 10)
        image = _image(folder, library)
        try:
            for i in range(SLICES):
                core = cores[i % len(cores)]
                row = {"library": str(library), "core": core, "priority": PRIORITY, "drivers": {"io": CHANNELS}}
                with host(folder, row) as (run, _, before), _contained(folder, image, row) as (other, other_before):
                    subprocess.run(["sleep", str(SLICE_S)], check=True)
                    outside.append(_since(before, status.read(run)))
                    inside.append(_since(other_before, status.read(other)))
        finally:
            subprocess.run(["docker", "rmi", "-f", image], capture_output=True, check=False)
    for key, measure in (
        ("execution_p50", lambda rows: _quantile([t.execution for t in rows], 0.5)),
        ("execution_p99", lambda rows: _quantile([t.execution for t in rows], 0.99)),
        ("execution_jitter", _jitter),
        ("latency_p99", lambda rows: _quantile([t.latency for t in rows], 0.99)),
    ):
        ours, theirs = measure(inside), measure(outside)
        yield Figure(
            key=f"scan_container_{key}",
            value=ours / 1000,
            unit="us",
            goal="<= 1.2 times the host outside",
            compared_to=f"the host outside {theirs / 1000:.1f} us",
            ratio=ours / max(theirs, 1),
        )


def _quantile(parts: list[status.Histogram], q: float) -> int:
    return total(parts).quantile_ns(q) or 0


def _jitter(rows: list[status.TaskStatus]) -> int:
    """How far the 99th percentile of the execution time lies above its median, ns."""
    parts = [t.execution for t in rows]
    return _quantile(parts, 0.99) - _quantile(parts, 0.5)


@contextlib.contextmanager
def _real_time_share() -> Iterator[None]:
    """Kernels with RT_GROUP_SCHED under cgroup v1 give containers no FIFO time unless their parent has some."""
    share = Path("/sys/fs/cgroup/cpu/docker/cpu.rt_runtime_us")
    before = share.read_text() if share.exists() else None
    if before is not None and int(before) < 800_000:
        share.write_text("900000")
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(OSError):  # another container has taken of it meanwhile
                share.write_text(before)


def _image(folder: Path, library: Path) -> str:
    """An image of the host, the program and the libraries they need, nothing else."""
    binary = build.find(build.HOST)
    listed = subprocess.run(["ldd", str(binary), str(library)], capture_output=True, text=True, check=True).stdout
    needed = {
        word for line in listed.splitlines() for word in line.split() if word.startswith("/") and not word.endswith(":")
    }
    path = folder / "image.tar"
    with tarfile.open(path, "w") as tar:
        for name in sorted(needed):
            tar.add(os.path.realpath(name), arcname=name)
        tar.add(binary, arcname="/host")
        tar.add(library, arcname=str(library))
    done = subprocess.run(["docker", "import", str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@contextlib.contextmanager
def _contained(folder: Path, image: str, row: dict[str, object]) -> Iterator[tuple[Path, status.Status]]:
    configuration = folder / "contained.json"
    configuration.write_text(json.dumps(row))
    run = Path(tempfile.mkdtemp(prefix="scan-bench-", dir="/dev/shm"))
    text = "from pathlib import Path; from vplc.scan import prepare; import sys; "
    text += "prepare.take(Path(sys.argv[1]), prepare.prepare(Path(sys.argv[2])))"
    subprocess.run([sys.executable, "-c", text, str(run), str(configuration)], check=True)
    command = ["docker", "run", "--rm", "-i", "--network", "none", "--read-only", "--cap-drop", "ALL"]
    command += ["--cap-add", "SYS_NICE", "--cap-add", "IPC_LOCK", "--security-opt", "no-new-privileges"]
    if Path("/sys/fs/cgroup/cpu/docker/cpu.rt_runtime_us").exists():
        command += ["--cpu-rt-runtime", "800000"]
    command += ["-v", f"{run}:{run}", "--name", run.name, image, "/host", str(run / "plan"), str(run)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        before = running(run, process)
        for alarm in before.alarms:
            print(f"scan host in the container: {alarm}", file=sys.stderr)
        yield run, before
    finally:
        subprocess.run(["docker", "kill", run.name], capture_output=True, check=False)
        process.wait(20)
        shutil.rmtree(run)
