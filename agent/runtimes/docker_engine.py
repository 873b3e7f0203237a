"""Runs workloads as containers of a Docker Engine, through its socket, with nothing more allowed than they need.

Every container: read-only root, no capabilities, no new privileges, user 10001, limits on processes, memory and CPU,
a bounded log, an init process, only networks of the segments it declared. The engine's own restart policy brings
workloads back after a power cut, before and without the agent. It refuses privileged containers, host namespaces and
published ports by never asking for them; tags decide nothing, images are run by their digests.

Class control gets what real time needs and nothing else: the capabilities to set a priority and to lock memory, those
to pass them on to a user that is not root (added capabilities reach root only), its processor, and a folder in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import msgspec
from docker.errors import APIError, DockerException, NotFound
from docker.types import LogConfig, Mount
from requests.exceptions import RequestException

from agent.folders import MEMORY, disk_errors, remove_others
from agent.pairs import pair_of
from agent.placement import ControlNode
from agent.runtimes.base import Folders, Observed, ObservedInstance, Phase, Wanted
from agent.runtimes.containers import (
    CONTROL_CAPABILITIES,
    KEPT_FOLDER,
    PAIR_FOLDER,
    RT_FILE,
    RUN_FOLDER,
    SECRETS_FOLDER,
    SHARED_FOLDER,
    USER_ID,
    container_platform,
)
from agent.runtimes.docker_conduits import LABEL as CONDUITS_LABEL
from agent.runtimes.docker_conduits import NOT_ENFORCED, Admission, DockerConduits, admission_of, create_network
from agent.runtimes.images import ImageMemory
from agent.secrets import secrets_folder
from manifests.errors import MachineError, SluiceError
from manifests.model import OCI_MANIFEST, RUN_VARIABLE, Artifact, WorkloadClass
from manifests.oci import hybrid_tar, image_ids, unpack_program

USER = f"{USER_ID}:{USER_ID}"
LABEL = "sluice."
CONTROL_USER = "0:0"  # its entry point gives the capabilities on and drops the rest
# Real-time groups: all containers together must fit their parent's 950 ms; a small share turns one long scan into an
# outage.
RT_PERIOD_US = 1_000_000
RT_SHARES_US = 800_000
# An owner too: when a container is started again, engines (runc before 1.2) give the mount the mode of the folder below
# it, which they made themselves, for root.
TMPFS_OWNER = f"mode=1777,uid={USER_ID},gid={USER_ID}"
NO_RT_SHARE = "no real-time share: the engine's own is too small (dockerd --cpu-rt-runtime=950000)"
CALL_TIMEOUT_S = 60
LOAD_TIMEOUT_S = 1800  # a flash card writes an image of some hundred MB slowly


class DockerRuntime:
    """One engine, one node of one site. ``networks`` maps segments to existing networks of the engine.

    Constructing it talks to nobody: an engine that is still starting is a MachineError of the first ``observe``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        site: str,
        node: str,
        networks: Mapping[str, str] | None = None,
        base_url: str | None = None,
        control: ControlNode | None = None,
        rt_file: Path = RT_FILE,
        hosts: Mapping[str, str] | None = None,
    ) -> None:
        self._conduits = DockerConduits(folder, site=site, node=node, hosts=hosts or {}, absent=NotFound)
        self._control = control or ControlNode()
        self._rt_groups = rt_file.exists()
        self._state = folder
        self._kept = folder / "kept"
        self._pairs = MEMORY / f"sluice-{site}-{node}-pairs"
        self._site = site
        self._node = node
        self._networks = dict(networks or {})
        self._base_url = base_url or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self._client: docker.APIClient | None = None
        self._version = ""
        self._cpus = 0
        self._init = True
        self._connecting = threading.Lock()
        self._images = ImageMemory(folder / "images.json")

    @property
    def description(self) -> str:
        note = "" if self._init else ", no init process"
        if self._conduits.fault:
            note += f", {NOT_ENFORCED}: {self._conduits.fault}"
        return f"docker {self._version}{note}" if self._version else "docker (does not answer)"

    @property
    def platform(self) -> str:
        return container_platform()

    # ------------------------------------------------------------ looking

    def observe(self, artifacts: Collection[Artifact]) -> Observed:
        with self._engine() as api:
            listed = api.containers(all=True, filters={"label": self._own_labels()})
            instances = {}
            self._conduits.refresh(api, {entry["Labels"][LABEL + "instance"]: entry["Labels"] for entry in listed})
            for entry in listed:
                with contextlib.suppress(NotFound):  # removed by someone between the two calls
                    found = self._guarded(self._found(api.inspect_container(entry["Id"])), entry["Labels"])
                    instances[found.name] = found
            images = {image["Id"] for image in api.images(all=True)}
            existing = {network["Name"] for network in api.networks()}
        prepared = {a.root.digest for a in artifacts if self._images.image(a) in images}
        segments = {name for name, network in self._networks.items() if network in existing}
        prefix = self._network_name("")
        segments |= {
            name.removeprefix(prefix)
            for name in existing
            if name.startswith(prefix) and name.removeprefix(prefix) not in self._networks
        }
        return Observed(instances=instances, prepared=frozenset(prepared), segments=frozenset(segments))

    def logs(self, name: str, lines: int = 50) -> Sequence[str]:
        with self._engine() as api:
            try:
                data: bytes = api.logs(self._container_name(name), tail=lines)
            except NotFound:
                return []
        return data[-64 * 1024 :].decode("utf-8", "replace").splitlines()

    # ------------------------------------------------------------ doing

    def pull(self, artifact: Artifact, blob_path: Callable[[str], Path]) -> None:
        if artifact.media_type != OCI_MANIFEST:
            raise MachineError("the engine takes container images only", where=artifact.media_type)
        candidates = image_ids(artifact, blob_path)
        with self._engine() as api:
            image = _first_image(api, candidates)
            if image is None:
                self._load(api, artifact, blob_path)
                image = _first_image(api, candidates)
        if image is None:
            raise MachineError("the engine took the image but does not know it", where=artifact.root.digest)
        self._images.remember(artifact.root.digest, image)

    def _load(self, api: Any, artifact: Artifact, blob_path: Callable[[str], Path]) -> None:
        reading, writing = os.pipe()
        failures: list[SluiceError | OSError] = []

        def feed() -> None:
            try:
                with os.fdopen(writing, "wb") as out:
                    hybrid_tar(artifact, blob_path, out)
            except (SluiceError, OSError) as error:
                failures.append(error)

        feeder = threading.Thread(target=feed, name="image", daemon=True)
        answered = ""
        with os.fdopen(reading, "rb") as source:
            feeder.start()
            chunks = iter(lambda: source.read(1 << 20), b"")
            url = api._url("/images/load")
            # Not api.load_image: it has one timeout for all calls, and loading takes longer than any other.
            response = api._post(url, data=chunks, params={"quiet": True}, stream=True, timeout=LOAD_TIMEOUT_S)
            for line in response.iter_lines():
                with contextlib.suppress(msgspec.MsgspecError):
                    said = msgspec.json.decode(line, type=dict[str, Any])
                    answered = str(said.get("error", answered))
            status = response.status_code
        feeder.join()
        if failures and not isinstance(failures[0], BrokenPipeError):
            if isinstance(failures[0], SluiceError):
                raise failures[0]
            raise MachineError(f"cannot read a blob: {failures[0]}", where=artifact.root.digest) from failures[0]
        if answered or status >= 400:
            raise MachineError(f"the engine refused the image: {answered or status}", where=artifact.root.digest)

    def connect(self, segment: str) -> None:
        name = self._networks.get(segment)
        with self._engine() as api:
            if name is not None:
                raise MachineError(
                    f"the engine has no network {name!r}",
                    where=f"segment {segment}",
                    remedy="make it, or correct `segments` in agent.yaml",
                )
            name = self._network_name(segment)
            if not any(network["Name"] == name for network in api.networks(names=[name])):
                labels = {LABEL + "site": self._site, LABEL + "segment": segment}
                create_network(api, name, labels)

    def start(self, instance: Wanted, run_folder: Path) -> str:
        name = self._container_name(instance.name)
        with self._engine() as api:
            try:
                found = api.inspect_container(name)
            except NotFound:
                found = None
            if found is not None:
                if (found["Config"].get("Labels") or {}).get(LABEL + "instance") != instance.name:
                    raise MachineError(f"a container named {name} exists that no agent made", where=instance.name)
                same = self._found(found)
                state = found["State"]["Status"]
                if state in ("running", "restarting", "paused"):
                    raise MachineError("it still runs", where=instance.name)
                unchanged = (same.release_digest, same.config_digest) == (
                    instance.release_digest,
                    instance.config_digest,
                )
                if not unchanged or state == "created":  # a half-made one may lack a network
                    api.remove_container(name, v=True)
                    found = None
            rt_share = self._rt_share_us(instance)
            networks = {segment: self._network(segment) for segment in instance.segments}
            while True:
                try:
                    if found is None:
                        admission = self._conduits.admission(api, instance, networks)
                        self._create(api, instance, run_folder, rt_share, admission)
                    else:
                        admission = admission_of(found["Config"]["Labels"])
                    self._conduits.admit(api, instance.name, admission)
                    api.start(name)
                    break
                except APIError as error:
                    said = str(error)
                    if found is None and self._conduits.learn(said, admission):
                        pass
                    elif self._init and "docker-init" in said:
                        self._init = False
                    elif rt_share and ("rt_runtime" in said or "real-time" in said):
                        rt_share = 0
                    else:
                        raise
                    with contextlib.suppress(NotFound):
                        api.remove_container(name, v=True, force=True)
                    found = None
            return _instance(api.inspect_container(name)).runtime_id

    def folders(self, instance: Wanted, run_folder: Path) -> Folders:
        pair = PAIR_FOLDER if pair_of(instance) else ""
        return Folders(shared=SHARED_FOLDER, kept=KEPT_FOLDER, secrets=SECRETS_FOLDER, pair=pair)

    def _rt_share_us(self, instance: Wanted) -> int:
        """0: this machine has no real-time groups, or the class needs none."""
        if instance.release.workload_class is not WorkloadClass.CONTROL or not self._rt_groups:
            return 0
        return RT_SHARES_US // max(1, self._control.most)

    def _control_config(self, instance: Wanted, rt_share_us: int) -> dict[str, Any]:
        """What the host configuration of class control has beyond the others'."""
        config: dict[str, Any] = {"cap_add": list(CONTROL_CAPABILITIES)}
        if instance.core is not None:
            # Drivers and servers share the processors that no scan is kept for: they must not wait for one.
            others = set(range(self._cpus)) - set(self._control.cores)
            config["cpuset_cpus"] = ",".join(str(core) for core in sorted(others | {instance.core}))
        if rt_share_us:
            config |= {"cpu_rt_period": RT_PERIOD_US, "cpu_rt_runtime": rt_share_us}
        return config

    def _kept_mount(self, instance: Wanted) -> Any:
        kept = self._kept / instance.name
        with disk_errors("cannot make its folder", kept):
            self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept.mkdir(exist_ok=True)
            kept.chmod(0o1777)  # several users inside; nobody outside comes through the folder above
        return Mount(KEPT_FOLDER, str(kept.absolute()), type="bind")

    def _create(self, api: Any, instance: Wanted, run_folder: Path, rt_share_us: int, admission: Admission) -> None:
        image = self._images.image(instance.artifact)
        if image is None:
            raise MachineError("its image was not loaded", where=instance.name)
        resources = instance.release.resources
        networks = [self._network(segment) for segment in instance.segments]
        memory = resources.memory_mb << 20
        of_control = instance.release.workload_class is WorkloadClass.CONTROL
        tmpfs = {"/tmp": f"rw,noexec,nosuid,nodev,{TMPFS_OWNER},size={resources.scratch_mb}m"}
        mounts = [Mount(RUN_FOLDER, str(run_folder), type="bind", read_only=True)]
        extra: dict[str, Any] = {}
        if of_control:
            extra = self._control_config(instance, rt_share_us)
            tmpfs[SHARED_FOLDER] = f"rw,exec,nosuid,nodev,{TMPFS_OWNER},size={resources.scratch_mb}m"
        if of_control or instance.release.keeps:
            mounts.append(self._kept_mount(instance))
        # Not mounts, which need their folders: after a power cut the engine makes these again, without the agent.
        binds = [f"{secrets_folder(self._state, instance.name)}:{SECRETS_FOLDER}:ro"] if instance.secrets else []
        pair = pair_of(instance)
        if pair:
            binds.append(f"{self._pairs / pair}:{PAIR_FOLDER}:rw")
        host = api.create_host_config(
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            privileged=False,
            # Class control brings its own first process: the engine's would stay root without CAP_KILL, and could not
            # pass a stop on to another user.
            init=self._init and not of_control,
            pids_limit=resources.pids,
            mem_limit=memory,
            memswap_limit=memory,
            nano_cpus=int(min(resources.cpus, self._cpus or resources.cpus) * 1e9),
            tmpfs=tmpfs,
            binds=binds or None,
            mounts=mounts,
            network_mode=networks[0] if networks else "none",
            restart_policy={"Name": "unless-stopped"},
            log_config=LogConfig(type="json-file", config={"max-size": "5m", "max-file": "2"}),
            **extra,
        )
        # Neighbours find an instance by its name only where it offers them something: on a plant's own network, or as
        # its own host name, an instance called "press" would hide the machine called "press" that it reads.
        serving = {self._network(service.segment) for service in instance.release.provides}
        aliases = {network: [instance.name] if network in serving else None for network in networks}
        addresses = {admission.networks[segment]: address for segment, address in admission.addresses.items()}
        ends = {network: {"aliases": aliases[network], "ipv4_address": addresses.get(network)} for network in networks}
        first = {networks[0]: api.create_endpoint_config(**ends[networks[0]])} if networks else None
        api.create_container(
            image,
            name=self._container_name(instance.name),
            hostname=self._container_name(instance.name)[-63:].lstrip("-"),
            user=CONTROL_USER if of_control else USER,
            environment={RUN_VARIABLE: RUN_FOLDER},
            host_config=host,
            networking_config=api.create_networking_config(first) if first else None,
            labels={
                LABEL + "site": self._site,
                LABEL + "node": self._node,
                LABEL + "instance": instance.name,
                LABEL + "release-digest": instance.release_digest,
                LABEL + "config-digest": instance.config_digest,
                LABEL + "workload": instance.release.name,
                LABEL + "version": instance.release.version,
                LABEL + "generation": str(instance.facts.generation),
                LABEL + "root": instance.root,
                LABEL + "core": "" if instance.core is None else str(instance.core),
                LABEL + "pair": pair,
                LABEL + "note": NO_RT_SHARE if of_control and self._rt_groups and not rt_share_us else "",
                CONDUITS_LABEL: msgspec.json.encode(admission).decode(),
                LABEL + "networks": " ".join(f"{segment}={self._network(segment)}" for segment in instance.segments),
            },
        )
        for network in networks[1:]:
            api.connect_container_to_network(self._container_name(instance.name), network, **ends[network])

    def unpack_program(self, instance: Wanted, blob_path: Callable[[str], Path], folder: Path) -> None:
        if instance.artifact is None:
            raise MachineError("the release has no artifact for this platform", where=instance.name)
        with self._engine() as api:
            old = api.inspect_image(api.inspect_container(self._container_name(instance.name))["Image"])
            new = api.inspect_image(self._images.image(instance.artifact))
        if _below_program(old) != _below_program(new):
            raise MachineError(
                "its image differs from the one that runs in more than the program",
                where=instance.name,
                remedy="release it without control.onlineChange",
            )
        unpack_program(instance.artifact, blob_path, folder)

    def stop(self, name: str, grace_s: float = 10.0) -> None:
        with self._engine() as api, contextlib.suppress(NotFound):
            api.stop(self._container_name(name), timeout=max(1, round(grace_s)))

    def remove(self, name: str) -> None:
        with self._engine() as api, contextlib.suppress(NotFound):
            api.remove_container(self._container_name(name), v=True)

    def forget_except(self, roots: Collection[str], segments: Collection[str]) -> None:
        with self._engine() as api:
            containers = api.containers(all=True, filters={"label": self._own_labels()})
            remove_others(self._pairs, {entry["Labels"].get(LABEL + "pair", "") for entry in containers})
            used = {entry["Labels"].get(LABEL + "root", "") for entry in containers}
            if not containers:
                self._conduits.remove()
            for root, image in self._images.others({*roots, *used}):
                try:
                    api.remove_image(image)
                except NotFound:
                    pass
                except APIError as error:
                    if error.status_code != 409:  # another agent of this machine runs it: its own business
                        raise
                self._images.forget(root)
            for network in api.networks(filters={"label": f"{LABEL}site={self._site}"}):
                if (network.get("Labels") or {}).get(LABEL + "segment") in segments:
                    continue
                with contextlib.suppress(APIError):  # in use by another node of this site on the same engine
                    api.remove_network(network["Id"])

    # ------------------------------------------------------------ the engine

    @contextlib.contextmanager
    def _engine(self) -> Iterator[Any]:
        """The engine's API; what it refuses becomes a MachineError."""
        try:
            with self._connecting:
                if self._client is None:
                    client = docker.APIClient(
                        self._base_url, version="auto", timeout=CALL_TIMEOUT_S, num_pools=4, max_pool_size=4
                    )
                    about = client.info()
                    self._version = str(about.get("ServerVersion", ""))
                    self._cpus = int(about.get("NCPU", 0))
                    self._client = client
            yield self._client
        except APIError as error:
            raise MachineError(f"the engine refused: {error.explanation or error}", where=self._base_url) from error
        except (DockerException, RequestException, OSError) as error:
            self._client, self._version = None, ""
            raise MachineError(
                f"the engine does not answer: {_short(error)}",
                where=self._base_url,
                remedy="is it running, and may this user reach its socket?",
            ) from error

    def _own_labels(self) -> list[str]:
        return [f"{LABEL}site={self._site}", f"{LABEL}node={self._node}"]

    def _container_name(self, instance: str) -> str:
        return f"sluice-{self._site}-{self._node}-{instance}"

    def _found(self, container: Mapping[str, Any]) -> ObservedInstance:
        """One made for other networks than agent.yaml gives its segments by now has, so to say, another configuration:
        only a new container can move."""
        found = _instance(container)
        made_for = (pair.partition("=") for pair in container["Config"]["Labels"].get(LABEL + "networks", "").split())
        if any(self._network(segment) != network for segment, _, network in made_for):
            return dataclasses.replace(found, config_digest="")
        return found

    def _guarded(self, found: ObservedInstance, labels: Mapping[str, str]) -> ObservedInstance:
        """With what is known of its conduits."""
        notes = (found.note, self._conduits.note(found.name, labels.get(LABEL + "networks", "").split()))
        count, last, _ = self._conduits.denied(found.name)
        return dataclasses.replace(found, note="; ".join(filter(None, notes)), denied=count, denied_last=last)

    def _network(self, segment: str) -> str:
        """The engine's network behind a segment: the node's own setting, or the one the agent makes."""
        return self._networks.get(segment) or self._network_name(segment)

    def _network_name(self, segment: str) -> str:
        return f"sluice-{self._site}-{segment}"


def _first_image(api: Any, candidates: Sequence[str]) -> str | None:
    for image in candidates:
        with contextlib.suppress(NotFound):
            return str(api.inspect_image(image)["Id"])
    return None


def _below_program(image: Mapping[str, Any]) -> tuple[Any, ...]:
    """Everything of an image but its last layer."""
    config = image["Config"]
    return image["RootFS"]["Layers"][:-1], *(
        config.get(key) for key in ("Entrypoint", "Cmd", "Env", "WorkingDir", "User")
    )


def _instance(found: Mapping[str, Any]) -> ObservedInstance:
    labels: Mapping[str, str] = found["Config"]["Labels"]
    state = found["State"]
    phase = {"running": Phase.RUNNING, "paused": Phase.RUNNING, "restarting": Phase.RESTARTING}.get(
        state["Status"], Phase.EXITED
    )
    started_ns = _nanoseconds(state.get("StartedAt", ""))
    code = state.get("ExitCode")
    detail = state.get("Error") or ""
    if phase is not Phase.RUNNING and not detail and state["Status"] != "created":
        detail = "killed: out of memory" if state.get("OOMKilled") else f"exit code {code}"
    return ObservedInstance(
        name=labels[LABEL + "instance"],
        phase=phase,
        runtime_id=f"{found['Id'][:12]}.{started_ns:x}",
        release_digest=labels.get(LABEL + "release-digest", ""),
        config_digest=labels.get(LABEL + "config-digest", ""),
        workload=labels.get(LABEL + "workload", ""),
        version=labels.get(LABEL + "version", ""),
        generation=int(labels.get(LABEL + "generation", "0")),
        started_ns=started_ns,
        exit_code=code if phase is not Phase.RUNNING else None,
        restarts=int(found.get("RestartCount", 0)),
        detail=detail,
        core=int(labels[LABEL + "core"]) if labels.get(LABEL + "core") else None,
        note=labels.get(LABEL + "note", ""),
    )


def _nanoseconds(text: str) -> int:
    """``2026-11-22T16:51:35.123456789Z`` -> ns since the epoch; 0 for the engine's "never"."""
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", text)
    if match is None or text.startswith("0001"):
        return 0
    seconds = int(datetime.fromisoformat(match[1]).replace(tzinfo=UTC).timestamp())
    return seconds * 1_000_000_000 + int((match[2] or "").ljust(9, "0") or 0)


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
