"""Runs workloads as Deployments of a Kubernetes cluster, in one namespace, with the rights of one small role.

Kubernetes restarts what ends, before and without the agent; the agent tells it what to run, reads back what it made of
it, and puts right what others changed. Where the API server is away, workloads run on and every method raises
UnreachableError. Like the other runtimes it decides nothing: a Deployment that somebody edited is reported (``drift``)
and mended when the plan says so.

Its memory on disk is small: which image an artifact is, and how each object looked when it was last told. Losing it
costs a second, harmless telling.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from agent.config import AgentConfig, KubernetesConfig
from agent.folders import disk_errors
from agent.ledger import write_atomic
from agent.pairs import pair_of
from agent.runtimes.base import Folders, Observed, ObservedInstance, Phase, Wanted
from agent.runtimes.containers import (
    KEPT_FOLDER,
    RT_FILE,
    SECRETS_FOLDER,
    SHARED_FOLDER,
    container_platform,
)
from agent.runtimes.images import ImageMemory
from agent.runtimes.kubernetes import findings
from agent.runtimes.kubernetes.client import Cluster, ConflictError, MissingError
from agent.runtimes.kubernetes.mirror import Mirror
from agent.runtimes.kubernetes.objects import (
    GRACE_S,
    LABEL,
    Object,
    Place,
    deployment,
    lacks,
    network_policy,
    service,
)
from agent.secrets import secrets_folder
from manifests.errors import DocumentError, MachineError, Problem, SluiceError
from manifests.model import OCI_MANIFEST, Artifact, WorkloadClass
from manifests.oci import hybrid_tar, image_ids

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
START_WAIT_S = 20.0  # for the first life to begin; a slow node goes on starting without us
REFUSAL_WAIT_S = 3.0  # what stands in the way for longer is said; a scheduler's first look often comes too early
END_WAIT_S = 30.0  # beyond the grace: the kubelet must also tell
DEPLOYMENTS, PODS, SERVICES, POLICIES = "deployments", "pods", "services", "networkpolicies"
_GROUPS = {
    DEPLOYMENTS: "/apis/apps/v1",
    PODS: "/api/v1",
    SERVICES: "/api/v1",
    POLICIES: "/apis/networking.k8s.io/v1",
}
_TOLD = {DEPLOYMENTS: "Deployment", SERVICES: "Service", POLICIES: "NetworkPolicy"}


def from_config(config: AgentConfig, said: KubernetesConfig, *, site: str, node: str) -> KubernetesRuntime:
    """As agent.yaml says it. Raises DocumentError for segments that are no address ranges."""
    state, runs = config.state_folder, config.run_folder
    problems = []
    for name, segment in config.segments.items():
        try:
            ipaddress.ip_network(segment.network)
        except ValueError as error:
            hint = "on Kubernetes a segment is an address range such as 10.20.0.0/16"
            problems.append(Problem(str(state), f"segments.{name}.network", str(error), hint))
    if problems:
        raise DocumentError(problems)
    place = Place(
        site=site,
        node=node,
        namespace=said.namespace or _own_namespace(said) or f"sluice-{site}",
        runs=PurePosixPath(runs),
        kept=PurePosixPath(runs.parent / "kept"),
        claim=said.claim,
        secrets=None if said.claim else _secrets(state),
        machine=said.machine,
        host_network=said.host_network,
        networks={name: segment.network for name, segment in config.segments.items()},
        registry=said.registry,
    )
    cluster = Cluster(Path(said.kubeconfig) if said.kubeconfig else None, context=said.context)
    image_folder = Path(said.image_folder) if said.image_folder else None
    return KubernetesRuntime(state, cluster, place, image_folder=image_folder)


def _own_namespace(said: KubernetesConfig) -> str:
    """Of the pod that this agent is; empty where it is none."""
    with contextlib.suppress(OSError):
        return "" if said.kubeconfig else NAMESPACE_FILE.read_text("ascii").strip()
    return ""


def _secrets(state: Path) -> PurePosixPath | None:
    """With a claim the machine's memory is not ours to reach."""
    try:
        return PurePosixPath(secrets_folder(state, "any").parent)
    except MachineError:
        return None


class KubernetesRuntime:
    """One node of one site in one namespace. Constructing it talks to nobody.

    ``image_folder``: where loaded artifacts are laid as image archives for the machine's own engine to take; None: they
    come to the node in another way.
    """

    def __init__(
        self, folder: Path, cluster: Cluster, place: Place, *, image_folder: Path | None = None, rt_file: Path = RT_FILE
    ) -> None:
        self._cluster = cluster
        self._place = place
        self._image_folder = image_folder
        self._rt_groups = rt_file.exists()
        self._images = ImageMemory(folder / "images.json")
        self._marks_path = folder / "objects.json"
        self._marks_lock = threading.Lock()
        try:
            self._marks = msgspec.json.decode(self._marks_path.read_bytes(), type=dict[str, str])
        except (OSError, msgspec.MsgspecError):
            self._marks = {}
        self._changed = threading.Condition()
        self._mirrors = {kind: Mirror(cluster, self._path(kind), place.selector, self._changed) for kind in _GROUPS}
        self._version = ""

    @property
    def description(self) -> str:
        return f"kubernetes {self._version}" if self._version else "kubernetes (does not answer)"

    @property
    def platform(self) -> str:
        return container_platform()

    def close(self) -> None:
        """Stop listening to the cluster."""
        for mirror in self._mirrors.values():
            mirror.close()

    # ------------------------------------------------------------ looking

    def observe(self, artifacts: Collection[Artifact]) -> Observed:
        self._hear_version()
        with self._looking() as seen:
            instances = {found.name: found for found in map(self._found, seen[DEPLOYMENTS].values())}
        prepared = frozenset(a.root.digest for a in artifacts if self._images.image(a))
        return Observed(instances=instances, prepared=prepared, segments=None)

    def _hear_version(self) -> None:
        if not self._version:
            self._version = str(self._cluster.get("/version").get("gitVersion", "unknown"))

    @contextlib.contextmanager
    def _looking(self) -> Iterator[Mapping[str, Mapping[str, Object]]]:
        """All mirrors at one moment. Raises what keeps any of them from knowing."""
        with self._changed:
            try:
                yield {kind: mirror.read() for kind, mirror in self._mirrors.items()}
            except SluiceError:
                self._version = ""  # it may be another one when it is back
                raise

    def _found(self, told: Object) -> ObservedInstance:
        """With ``_changed`` held."""
        name = told["metadata"]["labels"][LABEL + "instance"]
        pods = [pod for pod in self._mirrors[PODS].read().values() if _instance_of(pod) == name]
        return findings.instance(told, pods, self._drift(name, told))

    def _drift(self, name: str, told: Object) -> str:
        for kind, what in _TOLD.items():
            mine = self._place.object_name(name) if kind != SERVICES else name
            now = told if kind == DEPLOYMENTS else self._mirrors[kind].read().get(mine)
            before = self._marks.get(f"{kind}/{mine}")
            if now is None:
                if before is not None:
                    return f"its {what} was deleted"
            elif findings.mark(now) != before:
                return f"its {what} was changed by {findings.changed_by(now)}"
        return ""

    def logs(self, name: str, lines: int = 50) -> Sequence[str]:
        with self._changed:
            pods = [pod for pod in self._mirrors[PODS].read().values() if _instance_of(pod) == name]
        pod = findings.chosen(pods)
        if pod is None:
            return []
        try:
            path = f"{self._path(PODS, pod['metadata']['name'])}/log"
            said = self._cluster.text(path, tailLines=str(lines), limitBytes=str(64 << 10))
        except MachineError:  # it has not started, or is gone
            return []
        return said.splitlines()

    # ------------------------------------------------------------ images

    def pull(self, artifact: Artifact, blob_path: Callable[[str], Path]) -> None:
        """Nodes get images from their registry, by hand, or from ``image_folder``; what is made here is their name."""
        if artifact.media_type != OCI_MANIFEST:
            raise MachineError("the cluster takes container images only", where=artifact.media_type)
        image, _ = image_ids(artifact, blob_path)
        if self._image_folder is not None:
            path = _archive(self._image_folder, artifact.root.digest)
            with disk_errors("cannot lay the image down", path):
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    work = path.with_suffix(".part")
                    with work.open("wb") as out:
                        hybrid_tar(artifact, blob_path, out)
                    work.replace(path)
        self._images.remember(artifact.root.digest, image)

    def connect(self, segment: str) -> None:
        """The cluster's network is there; each instance brings the policy that fences it."""

    # ------------------------------------------------------------ doing

    def folders(self, instance: Wanted, run_folder: Path) -> Folders:
        if instance.secrets and self._place.secrets is None:
            raise MachineError(
                "its secrets cannot reach a pod: a volume claim is no memory of this machine",
                where=instance.name,
                remedy="run the agent on the machine itself, by kubeconfig and without `claim`",
            )
        return Folders(shared=SHARED_FOLDER, kept=KEPT_FOLDER, secrets=SECRETS_FOLDER if self._place.secrets else "")

    def start(self, instance: Wanted, run_folder: Path) -> str:
        place, name = self._place, instance.name
        if pair_of(instance):  # without the folder that decides, both would drive the outputs
            raise MachineError(
                "hot standby pairs in memory are not run on Kubernetes", where=name, remedy="use Docker for this node"
            )
        image = self._images.image(instance.artifact)
        if image is None:
            raise MachineError("its image is not known", where=name)
        found, drifted = self._before_start(instance)
        wanted = [network_policy(place, instance), service(place, instance)]
        if instance.release.keeps or instance.release.workload_class is WorkloadClass.CONTROL:
            self._make_kept(name)
        for kind, one in zip((POLICIES, SERVICES), wanted, strict=True):
            if one is not None:
                self._tell(kind, one)
        told = deployment(place, instance, image, note=lacks(instance, groups=self._rt_groups))
        if found is not None and drifted:
            # Applying takes our own fields back and leaves what somebody added: only the whole object is as signed.
            told["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
            path = self._path(DEPLOYMENTS, told["metadata"]["name"])
            with contextlib.suppress(ConflictError):  # changed again meanwhile: the next look says so
                self._remember(DEPLOYMENTS, self._cluster.replace(path, told))
        else:
            self._tell(DEPLOYMENTS, told)
        return self._wait_for_life(name)

    def _before_start(self, instance: Wanted) -> tuple[Object | None, bool]:
        """What is there already, and whether it drifted; what runs undisturbed is refused, what is outdated removed."""
        name = instance.name
        with self._looking() as seen:
            found = seen[DEPLOYMENTS].get(self._place.object_name(name))
            if found is None:
                return None, False
            is_now = self._found(found)
        if is_now.phase is not Phase.EXITED and not is_now.drift:
            raise MachineError("it still runs", where=name)
        if (is_now.release_digest, is_now.config_digest) == (instance.release_digest, instance.config_digest):
            return found, bool(is_now.drift)
        self.remove(name)
        return None, False

    def _make_kept(self, name: str) -> None:
        kept = Path(self._place.kept) / name
        with disk_errors("cannot make its folder", kept):
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept.mkdir(exist_ok=True)
            kept.chmod(0o1777)  # several users inside

    def _tell(self, kind: str, wanted: Object) -> None:
        """Apply one object, unless somebody else made one of that name."""
        name = wanted["metadata"]["name"]
        path = self._path(kind, name)
        if self._mirrored(kind, name) is None:
            with contextlib.suppress(MissingError):
                labels = self._cluster.get(path)["metadata"].get("labels") or {}
                mine = wanted["metadata"]["labels"]
                if any(labels.get(key) != mine[key] for key in self._place.labels("")):
                    raise MachineError(
                        f"a {wanted['kind']} of that name exists that this agent did not make", where=path
                    )
        self._remember(kind, self._cluster.apply(path, wanted))

    def _mirrored(self, kind: str, name: str) -> Object | None:
        with self._changed:
            return self._mirrors[kind].read().get(name)

    def _remember(self, kind: str, told: Object) -> None:
        """How an object looks as we told it; and the mirror need not wait for the watch to say so."""
        with self._marks_lock:
            self._marks[f"{kind}/{told['metadata']['name']}"] = findings.mark(told)
            write_atomic(self._marks_path, msgspec.json.encode(self._marks))
        self._mirrors[kind].put(told)

    def _forget(self, *marks: str) -> None:
        with self._marks_lock:
            known = [mark for mark in marks if self._marks.pop(mark, None)]
            if known:
                write_atomic(self._marks_path, msgspec.json.encode(self._marks))

    def _wait_for_life(self, name: str) -> str:
        """The identity of the life that began. Raises MachineError when something stands in its way; it is then tried
        on by the cluster, and the next look says the same."""
        began = time.monotonic()
        object_name = self._place.object_name(name)
        with self._changed:
            while True:
                told = self._mirrors[DEPLOYMENTS].read().get(object_name)
                if told is None:
                    raise MachineError("it was deleted while it started", where=name)
                is_now, waited_s = self._found(told), time.monotonic() - began
                crashed = is_now.phase is Phase.RESTARTING and is_now.exit_code is not None
                if is_now.phase is Phase.RUNNING or crashed or waited_s > START_WAIT_S:
                    return is_now.runtime_id
                if is_now.phase is Phase.RESTARTING and waited_s > REFUSAL_WAIT_S:
                    raise MachineError(f"{is_now.reason}: {is_now.detail}", where=name)
                self._changed.wait(0.25)

    def unpack_program(self, instance: Wanted, blob_path: Callable[[str], Path], folder: Path) -> None:
        remedy = "release it without control.onlineChange"
        raise MachineError("this runtime changes no program online", where=instance.name, remedy=remedy)

    def stop(self, name: str, grace_s: float = GRACE_S) -> None:
        if self._mirrored(DEPLOYMENTS, self._place.object_name(name)) is None:
            return
        path = self._path(DEPLOYMENTS, self._place.object_name(name))
        with contextlib.suppress(MissingError):
            self._remember(DEPLOYMENTS, self._cluster.change(path, {"spec": {"replicas": 0}}))
            self._wait_for_end(name, grace_s)

    def _wait_for_end(self, name: str, grace_s: float) -> None:
        """Until no pod is left. A grace other than the pods' own is told to each pod once it is ending.

        A pod whose container has ended, as its kubelet says, is deleted at once: the kubelet takes some seconds more to
        clean up, and the next life would wait that long for its port and its share of the node.
        """
        told: set[tuple[str, int]] = set()
        deadline = time.monotonic() + grace_s + END_WAIT_S
        while True:
            with self._changed:
                pods = [pod for pod in self._mirrors[PODS].read().values() if _instance_of(pod) == name]
                if not pods:
                    return
                ending = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
                graces = ((pod, 0 if findings.ended(pod) else max(1, round(grace_s))) for pod in ending)
                tell = {(pod["metadata"]["name"], grace) for pod, grace in graces if grace != GRACE_S} - told
                if not tell:
                    self._changed.wait(0.25)
            for pod_name, grace in tell:
                self._cluster.delete(self._path(PODS, pod_name), grace_s=grace)
            told |= tell
            if time.monotonic() > deadline:
                raise MachineError("it does not end: is the node's kubelet running?", where=name)

    def remove(self, name: str) -> None:
        mine = self._place.object_name(name)
        for kind, one in ((DEPLOYMENTS, mine), (SERVICES, name), (POLICIES, mine)):
            if self._mirrored(kind, one) is not None:
                self._cluster.delete(self._path(kind, one))
                self._forget(f"{kind}/{one}")
        deadline = time.monotonic() + END_WAIT_S
        with self._changed:
            while mine in self._mirrors[DEPLOYMENTS].read() or name in self._mirrors[SERVICES].read():
                if time.monotonic() > deadline:
                    raise MachineError("it is not deleted: does something hold it (finalizers)?", where=name)
                self._changed.wait(0.25)

    def forget_except(self, roots: Collection[str], segments: Collection[str]) -> None:
        """Also what lost its instance: policies, services, and pods that ended on a full node."""
        with self._looking() as seen:
            instances = {_instance_of(one): one for one in seen[DEPLOYMENTS].values()}
            used = {one["metadata"].get("annotations", {}).get(LABEL + "root", "") for one in instances.values()}
            orphans = [
                (kind, name)
                for kind in (SERVICES, POLICIES)
                for name, one in seen[kind].items()
                if _instance_of(one) not in instances
            ]
            ended = [(PODS, name) for name, pod in seen[PODS].items() if pod.get("status", {}).get("phase") == "Failed"]
        for kind, name in (*orphans, *ended):
            self._cluster.delete(self._path(kind, name))
            self._forget(f"{kind}/{name}")
        for root, _ in self._images.others({*roots, *used}):
            if self._image_folder is not None:
                _archive(self._image_folder, root).unlink(missing_ok=True)
            self._images.forget(root)

    def _path(self, kind: str, name: str = "") -> str:
        return f"{_GROUPS[kind]}/namespaces/{self._place.namespace}/{kind}" + (f"/{name}" if name else "")


def _instance_of(found: Object) -> str:
    return str((found["metadata"].get("labels") or {}).get(LABEL + "instance", ""))


def _archive(folder: Path, root: str) -> Path:
    return folder / f"sluice-{root.removeprefix('sha256:')}.tar"
