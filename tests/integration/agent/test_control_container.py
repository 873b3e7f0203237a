"""A container of class control gets what real time needs, and nothing else: tried out from inside."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest

from agent.placement import ControlNode
from agent.runtimes.base import Wanted, wanted
from agent.runtimes.containers import RT_FILE
from agent.runtimes.docker_engine import NO_RT_SHARE, DockerRuntime
from agent.runtimes.process import ProcessRuntime
from manifests.model import (
    Artifact,
    Control,
    DesiredInstance,
    PlacedInstance,
    Resources,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
)
from tests.support import tiny_worker

PROBE = Path(__file__).resolve().parents[2] / "support" / "control_probe.c"
ENGINE_SHARE = RT_FILE.parent / "docker" / RT_FILE.name


def of_control(artifact: Artifact, site: str, core: int | None) -> Wanted:
    release = WorkloadRelease(
        name="probe",
        version="1.0.0",
        workload_class=WorkloadClass.CONTROL,
        artifacts=(artifact,),
        resources=Resources(memory_mb=64, cpus=0.5, pids=16, scratch_mb=4),
        control=Control(period_ms=10, jitter_p999_us=500, watchdog_ms=50, max_stop_ms=1000),
    )
    placed = PlacedInstance(
        instance=DesiredInstance(name="tank", node="edge", config={}),
        release=release,
        release_digest="sha256:" + "1" * 64,
    )
    made = wanted(SiteFacts(site=site, enterprise="acme", generation=1), placed, artifact.platform)
    return replace(made, core=core)


@pytest.fixture
def runtime(folder: Path) -> Iterator[DockerRuntime]:
    cores = (max(os.sched_getaffinity(0)),)
    made = DockerRuntime(
        folder, site=f"t{secrets.token_hex(3)}", node="edge", control=ControlNode(cores=cores, realtime=True)
    )
    yield made
    made.stop("tank", 1)
    made.remove("tank")
    made.forget_except([], [])


@pytest.mark.engine
def test_a_control_container_locks_memory_keeps_its_processor_and_can_give_its_rights_on(
    runtime: DockerRuntime, folder: Path
) -> None:
    core = max(os.sched_getaffinity(0))
    artifact = tiny_worker.of_source(PROBE, folder, runtime.platform)
    runtime.pull(artifact, partial(tiny_worker.blob_path, folder))
    instance = of_control(artifact, runtime._site, core)
    runtime.start(instance, tiny_worker.write_context(folder, instance))
    deadline = time.monotonic() + 30
    while "done" not in runtime.logs("tank"):
        assert time.monotonic() < deadline, runtime.logs("tank")
        time.sleep(0.1)
    said = dict(line.partition(": ")[::2] for line in runtime.logs("tank") if ": " in line)
    found = runtime.observe([artifact]).instances["tank"]
    assert found.core == core

    # Memory, folders, and the user it drops to: the same everywhere.
    for who in ("root", "user"):
        assert (said[f"{who} lock"], said[f"{who} shared"], said[f"{who} kept"]) == ("yes", "yes", "yes")
        assert said[f"{who} context"] == "Read-only file system"
        assert said[f"{who} chown"] == "Operation not permitted"
    assert said["user dropped"] == "yes"
    assert int(said["cores"]) == len(os.sched_getaffinity(0))  # its own, and those no scan is kept for

    # Priority: given, unless this engine has no real-time share to give; then it is said and the container runs.
    share = not RT_FILE.exists() or (ENGINE_SHARE.exists() and int(ENGINE_SHARE.read_text()) >= 800_000)
    assert said["user fifo"] == said["root fifo"] == ("yes" if share else "Operation not permitted")
    assert found.note == ("" if share else NO_RT_SHARE)

    container_now: Any = docker.APIClient(version="auto").inspect_container(f"sluice-{runtime._site}-edge-tank")
    host = container_now["HostConfig"]
    assert sorted(host["CapAdd"]) == ["IPC_LOCK", "SETGID", "SETPCAP", "SETUID", "SYS_NICE"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["ReadonlyRootfs"]
    assert not host["Privileged"]


@pytest.mark.engine
def test_what_is_kept_outlives_the_container_and_what_is_shared_does_not(runtime: DockerRuntime, folder: Path) -> None:
    artifact = tiny_worker.of_source(PROBE, folder, runtime.platform)
    runtime.pull(artifact, partial(tiny_worker.blob_path, folder))
    instance = of_control(artifact, runtime._site, None)
    runtime.start(instance, tiny_worker.write_context(folder, instance))
    deadline = time.monotonic() + 30
    while "done" not in runtime.logs("tank"):
        assert time.monotonic() < deadline, runtime.logs("tank")
        time.sleep(0.1)
    runtime.stop("tank", 1)
    runtime.remove("tank")
    assert {path.name for path in (folder / "kept" / "tank").iterdir()} == {"root", "user"}
    assert (folder / "kept").stat().st_mode & 0o777 == 0o700


def test_as_a_process_it_gets_a_folder_in_memory_that_ends_with_it_and_one_that_is_kept(folder: Path) -> None:
    runtime = ProcessRuntime(folder)
    artifact = tiny_worker.process_artifact(folder)
    runtime.pull(artifact, partial(tiny_worker.blob_path, folder))
    instance = of_control(artifact, "s", 0)
    run_folder = tiny_worker.write_context(folder, instance)
    folders = runtime.folders(instance, run_folder)
    try:
        runtime.start(instance, run_folder)
        assert runtime.observe([]).instances["tank"].core == 0
        assert ProcessRuntime(folder).observe([]).instances["tank"].core == 0  # a restarted agent knows it too
        (Path(folders.shared) / "image").write_text("x")
        (Path(folders.kept) / "retain").write_text("x")
    finally:
        runtime.stop("tank", 5)
        runtime.remove("tank")
    assert not Path(folders.shared).exists()
    assert (Path(folders.kept) / "retain").read_text() == "x"
