"""`python -m tests.bench.soak`: scans for a long time beside cyclictest and a standby, and draws what it saw.

A picture for the documentation: the histogram of wake-up latencies, with what was lost and how busy the machine was.
Not part of `./run bench`: it takes as long as it is told.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Mapping
from html import escape
from pathlib import Path

from tests.bench.scan_hosts import CHANNELS, PRIORITY, Peer, compile_1000, cyclictest
from tests.bench.scan_pair import ROLES, PairOfHosts
from vplc.scan import build, status

WIDTH, HEIGHT = 900, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 880, 60, 340
FIRST_US, LAST_US = 5.0, 100_000.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=11)
    parser.add_argument("--period-ms", type=int, default=10)
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="PICTURE.svg")
    options = parser.parse_args()
    build.build()
    with tempfile.TemporaryDirectory(prefix="scan-soak-") as folder:
        lines, ours, peer = soak(Path(folder), options.minutes, options.period_ms)
    title = f"Wake-up latency of {ours.total} scans at {options.period_ms} ms beside cyclictest"
    text = picture(title, lines, {"scan host": _per_us(ours), "cyclictest": dict(peer.counts)})
    options.out.write_text(text, "utf-8")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def soak(folder: Path, minutes: float, period_ms: int) -> tuple[list[str], status.Histogram, Peer]:
    """What there is to say, and both histograms."""
    cores = sorted(os.sched_getaffinity(0))
    library = compile_1000(folder, period_ms)
    row = {"library": str(library), "priority": PRIORITY, "drivers": {"io": CHANNELS}, "cores": [cores[-1], cores[0]]}
    loads: list[float] = []
    stop = threading.Event()

    def listen() -> None:
        while not stop.wait(5):
            loads.append(os.getloadavg()[0])

    with PairOfHosts(folder, row, {}) as pair:
        before, busy = pair.status("primary").tasks[0], _busy()
        listener = threading.Thread(target=listen)
        listener.start()
        peer = cyclictest(folder, period_ms, cores[-1], int(minutes * 60))
        stop.set()
        listener.join()
        used = [b - a for a, b in zip(busy, _busy(), strict=True)]
        after = {r: pair.status(r) for r in ROLES}
        pairs = {r: pair.pair(r) for r in ROLES}
    tasks = [after[r].tasks[0] for r in ROLES]  # should the standby have taken over, its scans count too
    latency = status.Histogram(
        tuple(
            a - b + c
            for a, b, c in zip(tasks[0].latency.counts, before.latency.counts, tasks[1].latency.counts, strict=True)
        ),
        max(t.latency.highest_ns for t in tasks),
    )
    missed = sum(t.missed for t in tasks) - before.missed
    overruns = sum(t.overruns for t in tasks) - before.overruns
    taken = sum(p.takeovers for p in pairs.values()) - 1
    worst = max(p.misses_in_a_row for p in pairs.values())
    share = 100 * used[0] / max(sum(used), 1)
    quantiles = ", ".join(f"p{100 * q:g} {(latency.quantile_ns(q) or 0) / 1000:.0f}" for q in (0.5, 0.99, 0.999))
    theirs = ", ".join(f"p{100 * q:g} {peer.quantile_us(q):.0f}" for q in (0.5, 0.99, 0.999))
    highest = max(peer.counts, default=0)
    lines = [
        f"scan host: {quantiles}, max {latency.highest_ns / 1000:.0f} us; {missed} periods missed, {overruns} overruns "
        f"in {latency.total + missed}",
        f"cyclictest, same core and priority: {theirs}, max {highest} us; "
        f"{sum(n for us, n in peer.counts.items() if us >= period_ms * 1000) + peer.beyond} samples late by a period",
        f"standby with missed_scans 2: {taken} take-overs without need; at most {worst} frames in a row came late",
        f"machine: {len(cores)} cores, Linux {platform.release().split('-')[0]}, not real-time; {share:.0f} % busy, "
        f"load average {min(loads):.1f} to {max(loads):.1f} (ordinary builds and tests beside it)",
    ]
    return lines, latency, peer


def _busy() -> tuple[int, int]:
    """Ticks of all cores that were used, and idle."""
    fields = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, idle


def _per_us(histogram: status.Histogram) -> dict[int, int]:
    out: dict[int, int] = {}
    for bucket, count in enumerate(histogram.counts):
        if count:
            low, high = status.bucket_range(bucket)
            us = (low + high) // 2000
            out[us] = out.get(us, 0) + count
    return out


def picture(title: str, lines: list[str], curves: Mapping[str, Mapping[int, int]]) -> str:
    """Steps over logarithmic axes, forty to the decade."""
    steps = {name: _steps(counts) for name, counts in curves.items()}
    most = max((n for row in steps.values() for n in row.values()), default=1)
    decades = math.ceil(math.log10(most + 1))

    def x(us: float) -> float:
        return LEFT + (RIGHT - LEFT) * math.log10(us / FIRST_US) / math.log10(LAST_US / FIRST_US)

    def y(count: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * math.log10(max(count, 0.5) / 0.5) / (decades - math.log10(0.5))

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="28" font-size="17" fill="#1d2733">{escape(title)}</text>',
    ]
    for us in (10, 100, 1000, 10_000, 100_000):
        label = f"{us} us" if us < 1000 else f"{us // 1000} ms"
        out.append(f'<path d="M{x(us):.1f} {TOP}V{BOTTOM}" stroke="#e3e8ee"/>')
        out.append(f'<text x="{x(us):.1f}" y="{BOTTOM + 18}" text-anchor="middle" fill="#52606d">{label}</text>')
    for power in range(decades + 1):
        out.append(f'<path d="M{LEFT} {y(10**power):.1f}H{RIGHT}" stroke="#e3e8ee"/>')
        out.append(
            f'<text x="{LEFT - 8}" y="{y(10**power) + 4:.1f}" text-anchor="end" fill="#52606d">{10**power}</text>'
        )
    for (name, row), colour, line in zip(steps.items(), ("#0b63c5", "#d9730d"), (0, 1), strict=True):
        path = [f"M{LEFT} {BOTTOM}"]
        for i in range(math.ceil(40 * math.log10(LAST_US / FIRST_US))):
            begin, end = (FIRST_US * 10 ** (k / 40) for k in (i, i + 1))
            height = y(row[i]) if row.get(i) else BOTTOM
            path.append(f"L{x(begin):.1f} {height:.1f}H{x(min(end, LAST_US)):.1f}")
        out.append(f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        out.append(f'<rect x="{RIGHT - 120}" y="{TOP + 6 + 18 * line}" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="{RIGHT - 102}" y="{TOP + 16 + 18 * line}" fill="#1d2733">{escape(name)}</text>')
    for i, text in enumerate(lines):
        out.append(f'<text x="{LEFT}" y="{BOTTOM + 48 + 18 * i}" fill="#1d2733">{escape(text)}</text>')
    return "\n".join([*out, "</svg>", ""])


def _steps(counts: Mapping[int, int]) -> dict[int, int]:
    out: dict[int, int] = {}
    for us, n in counts.items():
        step = max(0, int(40 * math.log10(max(us, FIRST_US) / FIRST_US)))
        out[step] = out.get(step, 0) + n
    return out


if __name__ == "__main__":
    sys.exit(main())
