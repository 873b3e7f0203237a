"""A volume claim may be a disk anywhere: an agent that has only that refuses to lay secrets there, with a remedy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from agent.runtimes.base import wanted
from agent.runtimes.kubernetes.client import Cluster
from agent.runtimes.kubernetes.objects import Place
from agent.runtimes.kubernetes.runtime import KubernetesRuntime
from manifests.errors import MachineError
from manifests.model import (
    DesiredInstance,
    PlacedInstance,
    SealedSecret,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
)


def test_an_instance_with_secrets_is_refused_over_a_claim_and_one_without_is_not(tmp_path: Path) -> None:
    release = WorkloadRelease(
        name="modbus", version="1.0.0", workload_class=WorkloadClass.TRANSLATOR, artifacts=(), keeps=True
    )
    placed = PlacedInstance(
        instance=DesiredInstance(name="pump", node="edge", config={}),
        release=release,
        release_digest="sha256:" + "1" * 64,
    )
    plain = wanted(SiteFacts(site="s", enterprise="acme", generation=1), placed, "linux/amd64")
    sealed = replace(plain, secrets=(SealedSecret(name="password", version=1, recipient="r", sealed="x"),))
    place = Place("s", "edge", "sluice-s", PurePosixPath("/n/run"), PurePosixPath("/n/kept"), claim="sluice")
    runtime = KubernetesRuntime(tmp_path, Cluster(None), place)
    assert runtime.folders(plain, tmp_path).secrets == ""
    with pytest.raises(MachineError, match="by kubeconfig and without `claim`"):
        runtime.folders(sealed, tmp_path)
