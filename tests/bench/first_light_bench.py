"""The platform's own figures: the agent's idle memory, the way from nothing to the first value, the idle uplink."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figure import Figure, cpu_seconds, pss_mb
from tests.demo.__main__ import bring_up, choose_runtime, version
from tests.demo.stage import Stage
from tests.support.engine import engine
from tests.support.procs import wait_for

PREFIXES = ("agent_", "demo_", "uplink_", "orchestrator_", "workload_")
IDLE_S = 120.0  # twelve reports at the 10 s that the centre asks for
SETTLE_S = 20.0


def figures() -> Iterator[Figure]:
    with engine() as available:
        runtime = choose_runtime("auto", available)
        with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
            yield from _idle(Path(folder) / "idle", runtime)
        with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
            yield from _busy(Path(folder) / "busy", runtime)


def _idle(folder: Path, runtime: str) -> Iterator[Figure]:
    """One enrolled site without a workload, with the settings a user has."""
    stage = Stage(folder, runtime, version(), report_s=30)
    try:
        stage.start_centre()
        stage.publish()
        stage.apply("bench")
        stage.start_plant("hamburg")
        agent = stage.agents["hamburg"]
        wait_for("the first report", lambda: stage.link_state("hamburg") == "online", 60, watch=[agent])
        time.sleep(SETTLE_S)
        link = stage.links["hamburg"]
        up, down, cpu, begun = link.bytes_up, link.bytes_down, cpu_seconds(agent.pid), time.monotonic()
        time.sleep(IDLE_S)
        hours = (time.monotonic() - begun) / 3600
        per_hour = (link.bytes_up + link.bytes_down - up - down) / hours
        yield Figure(key="agent_idle_pss", value=pss_mb(agent.pid), unit="MB", goal="< 50")
        yield Figure(
            key="agent_idle_cpu", value=100 * (cpu_seconds(agent.pid) - cpu) / (hours * 3600), unit="% of a core"
        )
        # 5 MB a month, both ways, TLS included; a report costs about 1 kB, and there is one every 30 s.
        goal = 5e6 / (30 * 24)
        yield Figure(
            key="uplink_idle_bytes_per_hour",
            value=per_hour,
            unit="B/h per site",
            goal=f"< {goal:.0f}",
            compared_to="5 MB per month",
            ratio=per_hour / goal,
        )
    finally:
        stage.close()


def _busy(folder: Path, runtime: str) -> Iterator[Figure]:
    """Two plants as in the demo."""
    stage = Stage(folder, runtime, version())
    try:
        seconds = bring_up(stage)
        yield Figure(
            key="demo_seconds_to_first_value",
            value=seconds["to the first value"],
            unit="s",
            goal="< 60",
            compared_to="60 s",
            ratio=seconds["to the first value"] / 60,
        )
        time.sleep(SETTLE_S)
        yield Figure(key="agent_busy_pss", value=pss_mb(stage.agents["hamburg"].pid), unit="MB", goal="< 50")
        yield Figure(key="orchestrator_pss", value=pss_mb(stage.orchestrator.pid), unit="MB")
        link = stage.links["hamburg"]
        samples = _samples(stage)
        sent, begun = link.bytes_up, time.monotonic()
        time.sleep(30)
        gained = _samples(stage) - samples
        yield Figure(
            key="uplink_bytes_per_sample",
            value=(link.bytes_up - sent) / max(1, gained),
            unit="B, TLS and reports included",
        )
        yield Figure(
            key="orchestrator_samples_per_second",
            value=gained / (time.monotonic() - begun),
            unit="samples/s from one site",
        )
    finally:
        stage.close()


def _samples(stage: Stage) -> int:
    return sum(int(stream["samples"]) for stream in stage.get("/sites/hamburg/streams"))
