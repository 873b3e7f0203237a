"""All runtimes keep the same promises: one test body, run against each."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from agent.runtimes.base import Phase, Runtime, Wanted
from agent.runtimes.process import LOG_LIMIT_BYTES, ProcessRuntime
from manifests.errors import MachineError, UnreachableError
from manifests.model import Artifact
from tests.support import tiny_worker


@dataclass
class Machine:
    folder: Path
    site: str
    artifact: Artifact
    again: Callable[[], Runtime]  # what a restarted agent would build
    load: Callable[[], None] = lambda: None  # what brings a pulled image to a machine that the agent is not on

    def make(self, name: str = "work", **options: Any) -> Wanted:
        return tiny_worker.make(self.artifact, name, site=self.site, **options)

    def start(self, runtime: Runtime, instance: Wanted) -> str:
        return runtime.start(instance, tiny_worker.write_context(self.folder, instance))

    def prepare(self, runtime: Runtime) -> None:
        runtime.pull(self.artifact, partial(tiny_worker.blob_path, self.folder))
        self.load()
        runtime.connect("ot")
        runtime.connect("site")


@pytest.fixture(
    params=[
        "process",
        pytest.param("docker", marks=pytest.mark.engine),
        pytest.param("kubernetes", marks=[pytest.mark.engine, pytest.mark.kubernetes]),
    ]
)
def machine(request: pytest.FixtureRequest, folder: Path) -> Iterator[Machine]:
    site = f"t{secrets.token_hex(3)}"
    if request.param == "kubernetes":
        yield from in_cluster(folder, site)
        return
    if request.param == "process":
        made = Machine(folder, site, tiny_worker.process_artifact(folder), lambda: ProcessRuntime(folder))
    else:
        from agent.runtimes.docker_engine import DockerRuntime

        def again() -> Runtime:
            return DockerRuntime(folder, site=site, node="edge")

        made = Machine(folder, site, tiny_worker.container_artifact(folder, again().platform), again)
    yield made
    runtime = made.again()
    for name in list(runtime.observe([]).instances):
        runtime.stop(name, 1)
        runtime.remove(name)
    runtime.forget_except([], [])


def in_cluster(folder: Path, site: str) -> Iterator[Machine]:
    from agent.runtimes.containers import container_platform
    from tests.support.cluster import ClusterNamespace, load_image

    namespace = ClusterNamespace(folder, site)
    runtimes = []

    def again() -> Runtime:
        runtimes.append(namespace.runtime(folder))
        return runtimes[-1]

    def load() -> None:
        for archive in (folder / "images").glob("*.tar"):
            load_image(archive)

    try:
        yield Machine(folder, site, tiny_worker.container_artifact(folder, container_platform()), again, load)
    finally:
        runtime = again()
        for name in list(runtime.observe([]).instances):  # their port may be the machine's own
            runtime.stop(name, 1)
            runtime.remove(name)
        for one in runtimes:
            one.close()
        namespace.close()


def says_hello(runtime: Runtime) -> bool:
    try:
        return "hello" in runtime.logs("work")
    except UnreachableError as error:  # a cluster whose API server does not reach its own kubelets
        warnings.warn(f"logs not tried: {error}", stacklevel=2)
        return True


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def found(runtime: Runtime, name: str = "work") -> Any:
    return runtime.observe([]).instances[name]


def test_an_instance_lives_its_whole_life(machine: Machine) -> None:
    runtime = machine.again()
    assert not runtime.observe([machine.artifact]).instances
    assert not runtime.observe([machine.artifact]).prepared
    machine.prepare(runtime)
    observed = runtime.observe([machine.artifact])
    assert observed.prepared == {machine.artifact.root.digest}
    assert observed.segments is None or observed.segments >= {"ot", "site"}

    instance = machine.make()
    life = machine.start(runtime, instance)
    seen = found(runtime)
    assert (seen.phase, seen.runtime_id) == (Phase.RUNNING, life)
    assert (seen.release_digest, seen.config_digest) == (instance.release_digest, instance.config_digest)
    assert (seen.workload, seen.version, seen.generation, seen.restarts) == ("worker", "1.0.1", 1, 0)
    wait_for(lambda: says_hello(runtime), "it never said hello")
    with pytest.raises(MachineError, match="still runs"):
        machine.start(runtime, instance)

    runtime.stop("work", 5)
    assert found(runtime).phase is Phase.EXITED
    second = machine.start(runtime, instance)
    assert second != life
    assert found(runtime).phase is Phase.RUNNING

    runtime.stop("work", 5)
    runtime.remove("work")
    assert not runtime.observe([]).instances
    runtime.stop("work")
    runtime.remove("work")
    assert runtime.logs("work") == []


def test_what_a_release_keeps_outlives_the_instance_and_others_get_no_such_folder(machine: Machine) -> None:
    runtime = machine.again()
    machine.prepare(runtime)
    instance = machine.make()
    kept = machine.folder / "kept" / "work"
    machine.start(runtime, instance)
    assert not kept.exists()
    runtime.stop("work", 1)
    runtime.remove("work")
    machine.start(runtime, replace(instance, release=structs.replace(instance.release, keeps=True)))
    (kept / "learnt").write_text("a baseline")
    runtime.stop("work", 1)
    runtime.remove("work")
    assert (kept / "learnt").read_text() == "a baseline"


def test_a_restarted_agent_adopts_what_runs(machine: Machine) -> None:
    runtime = machine.again()
    machine.prepare(runtime)
    life = machine.start(runtime, machine.make())
    other = machine.again()
    observed = other.observe([machine.artifact])
    assert observed.prepared == {machine.artifact.root.digest}
    assert observed.instances["work"].phase is Phase.RUNNING
    assert observed.instances["work"].runtime_id == life


def test_a_changed_release_takes_the_place_of_the_stopped_one(machine: Machine) -> None:
    runtime = machine.again()
    machine.prepare(runtime)
    life = machine.start(runtime, machine.make())
    runtime.stop("work", 5)
    newer = machine.make(version=2, config={"x": 1})
    assert machine.start(runtime, newer) != life
    seen = found(runtime)
    assert (seen.version, seen.config_digest) == ("1.0.2", newer.config_digest)


def test_a_crash_is_seen_with_its_exit_code(machine: Machine) -> None:
    runtime = machine.again()
    machine.prepare(runtime)
    machine.start(runtime, machine.make(config={"mode": "crash"}))
    wait_for(lambda: found(runtime).phase is not Phase.RUNNING, "it still runs")
    wait_for(lambda: found(runtime).exit_code == 7, "no exit code")


def test_unused_artifacts_are_forgotten_and_used_ones_kept(machine: Machine) -> None:
    runtime = machine.again()
    machine.prepare(runtime)
    machine.start(runtime, machine.make())
    runtime.forget_except([], ["ot", "site"])
    assert runtime.observe([machine.artifact]).prepared
    runtime.stop("work", 5)
    runtime.remove("work")
    runtime.forget_except([], [])
    assert not runtime.observe([machine.artifact]).prepared


def test_pulling_twice_does_no_harm(machine: Machine) -> None:
    runtime = machine.again()
    machine.prepare(runtime)
    machine.prepare(runtime)
    assert runtime.observe([machine.artifact]).prepared


# ---------------------------------------------------------------- processes only


@pytest.fixture
def processes(folder: Path) -> Iterator[Machine]:
    made = Machine(folder, "plant", tiny_worker.process_artifact(folder), lambda: ProcessRuntime(folder))
    yield made
    runtime = made.again()
    for name in list(runtime.observe([]).instances):
        runtime.stop(name, 1)


def test_tidying_up_leaves_alone_what_is_being_unpacked(processes: Machine, folder: Path) -> None:
    runtime = processes.again()
    half = folder / "artifacts" / ".0123.working"
    half.mkdir()
    (half / "module.py").touch()
    runtime.forget_except([], [])
    assert (half / "module.py").exists()
    processes.again()  # the next life of the agent knows that nobody works on it any more
    assert not half.exists()


def test_an_artifact_is_never_half_there_under_its_own_name(processes: Machine, folder: Path) -> None:
    runtime = processes.again()
    processes.prepare(runtime)
    seen: list[bool] = []
    rmtree = shutil.rmtree

    def watched(path: Path, **options: Any) -> None:
        seen.append(bool(runtime.observe([processes.artifact]).prepared))
        rmtree(path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.runtimes.process.shutil.rmtree", watched)
        runtime.forget_except([], [])
    assert seen[-1] is False


def test_a_process_whose_number_was_never_written_down_is_found(processes: Machine) -> None:
    """The agent died between starting it and recording it."""
    runtime = ProcessRuntime(processes.folder)
    processes.prepare(runtime)
    life = processes.start(runtime, processes.make())
    record = runtime._read("work")
    assert record is not None
    record.pid = record.ticks = 0
    runtime._write(record)
    assert found(processes.again()).runtime_id == life


def test_a_record_of_another_boot_or_a_reused_number_is_not_believed(processes: Machine) -> None:
    runtime = ProcessRuntime(processes.folder)
    processes.prepare(runtime)
    processes.start(runtime, processes.make())
    record = runtime._read("work")
    assert record is not None
    pid, ticks = record.pid, record.ticks
    record.ticks = ticks + 1
    runtime._write(record)
    assert found(processes.again()).phase is Phase.EXITED
    record.ticks, record.boot = ticks, "another boot"
    runtime._write(record)
    assert found(processes.again()).phase is Phase.EXITED
    os.killpg(pid, signal.SIGKILL)


def test_logs_stay_bounded_while_the_process_writes(processes: Machine) -> None:
    runtime = ProcessRuntime(processes.folder)
    processes.prepare(runtime)
    processes.start(runtime, processes.make())
    log = processes.folder / "logs" / "work.log"
    with log.open("ab") as file:
        file.write(b"x" * 99 + b"\n" + b"y" * LOG_LIMIT_BYTES)
    runtime.observe([])
    assert log.stat().st_size < LOG_LIMIT_BYTES


# ---------------------------------------------------------------- containers only


@pytest.mark.engine
def test_containers_are_hardened(folder: Path) -> None:
    import docker

    from agent.runtimes.docker_engine import DockerRuntime

    site = f"t{secrets.token_hex(3)}"
    runtime = DockerRuntime(folder, site=site, node="edge")
    artifact = tiny_worker.container_artifact(folder, runtime.platform)
    machine = Machine(folder, site, artifact, lambda: runtime)
    machine.prepare(runtime)
    try:
        machine.start(runtime, machine.make())
        api = docker.APIClient(version="auto")
        details = api.inspect_container(f"sluice-{site}-edge-work")
        host = details["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert not host["Privileged"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["PidsLimit"] == 16
        assert host["Memory"] == host["MemorySwap"] == 32 << 20
        assert host["NanoCpus"] == 250_000_000
        assert host["Init"]
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert not host["PortBindings"]
        assert not host["PublishAllPorts"]
        assert set(host["Tmpfs"]["/tmp"].split(",")) >= {"noexec", "nosuid", "nodev", "size=4m"}
        assert host["LogConfig"]["Config"] == {"max-size": "5m", "max-file": "2"}
        assert details["Config"]["User"] == "10001:10001"
        assert [mount["RW"] for mount in details["Mounts"]] == [False]
        networks = details["NetworkSettings"]["Networks"]
        assert set(networks) == {f"sluice-{site}-ot", f"sluice-{site}-site"}
        # By its name only where it offers something: elsewhere it could hide a machine of that name from itself.
        assert "work" in networks[f"sluice-{site}-site"]["Aliases"]
        assert "work" not in (networks[f"sluice-{site}-ot"]["Aliases"] or [])
        assert details["Config"]["Hostname"] == f"sluice-{site}-edge-work"
        assert all(api.inspect_network(name)["Internal"] for name in networks)
    finally:
        runtime.stop("work", 1)
        runtime.remove("work")
        runtime.forget_except([], [])


@pytest.mark.engine
def test_a_container_made_for_other_networks_than_the_node_names_now_counts_as_changed(folder: Path) -> None:
    import docker

    from agent.runtimes.docker_engine import DockerRuntime

    site = f"t{secrets.token_hex(3)}"
    runtime = DockerRuntime(folder, site=site, node="edge")
    artifact = tiny_worker.container_artifact(folder, runtime.platform)
    machine = Machine(folder, site, artifact, lambda: runtime)
    machine.prepare(runtime)
    plant = f"sluice-{site}-machines"
    api = docker.APIClient(version="auto")
    api.create_network(plant, internal=True)
    attached = DockerRuntime(folder, site=site, node="edge", networks={"ot": plant})
    try:
        wanted = machine.make()
        machine.start(runtime, wanted)
        assert found(runtime).config_digest == wanted.config_digest
        assert found(attached).config_digest != wanted.config_digest
        attached.stop("work", 1)
        machine.start(attached, wanted)
        assert found(attached).config_digest == wanted.config_digest
        networks = api.inspect_container(f"sluice-{site}-edge-work")["NetworkSettings"]["Networks"]
        assert set(networks) == {plant, f"sluice-{site}-site"}
    finally:
        attached.stop("work", 1)
        attached.remove("work")
        attached.forget_except([], [])
        api.remove_network(plant)


@pytest.mark.engine
def test_another_agents_containers_on_the_same_engine_are_none_of_ours(folder: Path) -> None:
    from agent.runtimes.docker_engine import DockerRuntime

    first, second = (f"t{secrets.token_hex(3)}" for _ in range(2))
    ours = DockerRuntime(folder / "a", site=first, node="edge")
    theirs = DockerRuntime(folder / "b", site=second, node="edge")
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    artifact = tiny_worker.container_artifact(folder, ours.platform)
    machine = Machine(folder, first, artifact, lambda: ours)
    machine.prepare(ours)
    try:
        machine.start(ours, machine.make())
        assert theirs.observe([]).instances == {}
        theirs.forget_except([], [])
        assert found(ours).phase is Phase.RUNNING
    finally:
        ours.stop("work", 1)
        ours.remove("work")
        ours.forget_except([], [])


def test_a_missing_engine_is_a_clear_error(folder: Path) -> None:
    from agent.runtimes.docker_engine import DockerRuntime

    runtime = DockerRuntime(folder, site="s", node="n", base_url=f"unix://{folder}/none.sock")
    with pytest.raises(MachineError, match="does not answer"):
        runtime.observe([])
    assert "does not answer" in runtime.description
