"""What an online change takes from the scan in which it happens."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figure import Figure
from tests.bench.scan_hosts import build_program, host
from vplc.scan import build, change, status

PREFIXES = ("online_change_",)


def figures() -> Iterator[Figure]:
    """Two versions with the same variables in another order take turns; every value is moved on its own."""
    build.build()
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
    with host(folder, {"library": str(libraries[0]), "core": core}) as (run, _, _):
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
    return build_program(source)
