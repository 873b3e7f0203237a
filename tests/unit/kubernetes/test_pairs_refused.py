"""Two hosts that cannot see each other would both drive the outputs: such a pair is not started on a cluster."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from agent.runtimes.base import wanted
from agent.runtimes.kubernetes.client import Cluster
from agent.runtimes.kubernetes.objects import Place
from agent.runtimes.kubernetes.runtime import KubernetesRuntime
from manifests.errors import MachineError
from manifests.model import Control, DesiredInstance, PlacedInstance, SiteFacts, WorkloadClass, WorkloadRelease


def test_a_standby_pair_in_memory_is_refused_before_anything_is_told(tmp_path: Path) -> None:
    release = WorkloadRelease(
        name="tank",
        version="1.0.0",
        workload_class=WorkloadClass.CONTROL,
        artifacts=(),
        control=Control(period_ms=10, jitter_p999_us=500, watchdog_ms=50, max_stop_ms=5000),
    )
    placed = PlacedInstance(
        instance=DesiredInstance(name="tank", node="edge", config={"pair": {"name": "north", "role": "standby"}}),
        release=release,
        release_digest="sha256:" + "1" * 64,
    )
    instance = wanted(SiteFacts(site="s", enterprise="acme", generation=1), placed, "linux/amd64")
    place = Place("s", "edge", "sluice-s", PurePosixPath("/run"), PurePosixPath("/kept"))
    runtime = KubernetesRuntime(tmp_path, Cluster(None), place)
    with pytest.raises(MachineError, match="standby pairs"):
        runtime.start(instance, tmp_path)
