"""What the cluster is told of one instance: Deployment, Service, NetworkPolicy. Pure; ``runtime`` applies it.

Every pod: Pod Security "restricted", read-only root, limits that equal its requests (QoS Guaranteed), no token of the
cluster, an image by digest, one replica that is ended before the next begins. Class control adds the capabilities that
real time needs, a root user that its entry point leaves, and a folder in memory. It refuses liveness probes by never
asking for them: the agent hears the workload itself, and a machine that is silent is not therefore better stopped.

There is no ConfigMap: the context lies in the run folder that the bus socket needs anyhow, so live parameters arrive at
once, and the plant's configuration is not readable for whoever may read the namespace. Nor is there a Secret: what the
agent opened stays in the machine's memory, and out of the cluster's database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from agent.runtimes.base import Wanted
from agent.runtimes.containers import (
    CONTROL_CAPABILITIES,
    KEPT_FOLDER,
    RUN_FOLDER,
    SECRETS_FOLDER,
    SHARED_FOLDER,
    USER_ID,
)
from manifests.model import RUN_VARIABLE, Conduit, WorkloadClass

Object = dict[str, Any]

MANAGER = "sluice"
LABEL = "sluice."
SEGMENT = LABEL + "segment/"
GRACE_S = 10  # between SIGTERM and SIGKILL, as with the other runtimes
_DNS_PORT = 53
NO_RT_SHARE = "no real-time share: Kubernetes gives none where the kernel shares real-time out by group"
NOT_NARROWED = "conduits NOT narrowed to reads: a cluster's network policies look into no packet"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node's instances go: its own settings, no word of the centre.

    ``runs`` and ``kept`` are folders of the machine, or of ``claim`` (a PersistentVolumeClaim) when there is one.
    ``secrets``: the machine's folder in memory of what the agent opened, by instance; None: it hands out none.
    ``machine`` is the cluster's name of this node; empty: the cluster chooses, right only where there is one.
    ``networks`` maps segments to address ranges beyond the cluster (CIDR). ``registry`` empty: images are on the node.
    """

    site: str
    node: str
    namespace: str
    runs: PurePosixPath
    kept: PurePosixPath
    claim: str = ""
    secrets: PurePosixPath | None = None
    machine: str = ""
    host_network: bool = False
    networks: Mapping[str, str] = field(default_factory=dict)
    registry: str = ""

    @property
    def selector(self) -> str:
        """Of everything this agent owns in the namespace."""
        return f"{LABEL}site={self.site},{LABEL}node={self.node}"

    def object_name(self, instance: str) -> str:
        """Not "node-instance": a dot is in neither name, so no two instances of a site meet in one."""
        return f"{instance}.{self.node}"

    def labels(self, instance: str) -> dict[str, str]:
        return {LABEL + "site": self.site, LABEL + "node": self.node, LABEL + "instance": instance}


def image_reference(place: Place, instance: Wanted, image: str) -> str:
    """By digest either way: of the image's config where it is loaded by hand, of its manifest in a registry."""
    if not place.registry:
        return image
    return f"{place.registry.rstrip('/')}/{instance.release.name}@{instance.root}"


def lacks(instance: Wanted, *, groups: bool) -> str:
    """What the instance cannot be given in a cluster, for its status. ``groups``: the kernel shares real time out by
    group."""
    said = []
    if groups and instance.release.workload_class is WorkloadClass.CONTROL:
        said.append(NO_RT_SHARE)
    if any(conduit.inspect for conduit in instance.release.conduits):
        said.append(NOT_NARROWED)
    return "; ".join(said)


def deployment(place: Place, instance: Wanted, image: str, *, note: str = "") -> Object:
    """One instance. ``note``: what it cannot be given here, for the status."""
    release = instance.release
    labels = place.labels(instance.name)
    annotations = {
        LABEL + "release-digest": instance.release_digest,
        LABEL + "config-digest": instance.config_digest,
        LABEL + "workload": release.name,
        LABEL + "version": release.version,
        LABEL + "generation": str(instance.facts.generation),
        LABEL + "root": instance.root,
        LABEL + "core": "" if instance.core is None else str(instance.core),
        LABEL + "note": note,
    }
    pod_labels = labels | {SEGMENT + segment: "attached" for segment in instance.segments}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": place.object_name(instance.name),
            "namespace": place.namespace,
            "labels": labels | {"app.kubernetes.io/managed-by": MANAGER},
            "annotations": annotations,
        },
        "spec": {
            "replicas": 1,
            # Never two lives at once: both would own the device, the stream and the outputs.
            "strategy": {"type": "Recreate"},
            "revisionHistoryLimit": 0,  # the way back is a signed release
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": pod_labels}, "spec": _pod(place, instance, image)},
        },
    }


def _pod(place: Place, instance: Wanted, image: str) -> Object:
    release = instance.release
    of_control = release.workload_class is WorkloadClass.CONTROL
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": GRACE_S,
        "hostNetwork": place.host_network,
        "dnsPolicy": "ClusterFirstWithHostNet" if place.host_network else "ClusterFirst",
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        # A kubelet that the API server cannot hear for five minutes would lose its pods when it is back: a plant's
        # workloads outlast any silence of the cluster.
        "tolerations": [
            {"key": f"node.kubernetes.io/{trouble}", "operator": "Exists", "effect": "NoExecute"}
            for trouble in ("not-ready", "unreachable")
        ],
        "containers": [_container(place, instance, image)],
        "volumes": _volumes(place, instance),
    }
    if not of_control:
        spec["securityContext"] |= {"runAsNonRoot": True, "runAsUser": USER_ID, "runAsGroup": USER_ID}
    if place.machine:
        spec["nodeSelector"] = {"kubernetes.io/hostname": place.machine}
    return spec


def _container(place: Place, instance: Wanted, image: str) -> Object:
    release = instance.release
    of_control = release.workload_class is WorkloadClass.CONTROL
    limits = {"memory": f"{release.resources.memory_mb}Mi", "cpu": f"{round(release.resources.cpus * 1000)}m"}
    security: Object = {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    if of_control:
        security["capabilities"]["add"] = list(CONTROL_CAPABILITIES)
        security |= {"runAsUser": 0, "runAsGroup": 0}
    container: Object = {
        "name": "workload",
        "image": image_reference(place, instance, image),
        "imagePullPolicy": "IfNotPresent" if place.registry else "Never",
        "env": [{"name": RUN_VARIABLE, "value": RUN_FOLDER}],
        "resources": {"requests": limits, "limits": limits},
        "securityContext": security,
        "volumeMounts": _mounts(place, instance),
    }
    if release.provides:
        container["ports"] = [
            {"name": f"p{service.port}", "containerPort": service.port, "protocol": "TCP"}
            for service in release.provides
        ]
        container["readinessProbe"] = {
            "tcpSocket": {"port": release.provides[0].port},
            "periodSeconds": 10,
            "timeoutSeconds": 2,
        }
    return container


def _mounts(place: Place, instance: Wanted) -> list[Object]:
    run: Object = {"name": "run", "mountPath": RUN_FOLDER, "readOnly": True}
    kept: Object = {"name": "kept", "mountPath": KEPT_FOLDER}
    if place.claim:
        run |= {"name": "node", "subPath": f"{place.runs.name}/{instance.name}"}
        kept |= {"name": "node", "subPath": f"{place.kept.name}/{instance.name}"}
    mounts = [run, {"name": "scratch", "mountPath": "/tmp"}]
    if _keeps(instance):
        mounts.append(kept)
    if instance.secrets:
        mounts.append({"name": "secrets", "mountPath": SECRETS_FOLDER, "readOnly": True})
    if instance.release.workload_class is WorkloadClass.CONTROL:
        mounts.append({"name": "shared", "mountPath": SHARED_FOLDER})
    return mounts


def _volumes(place: Place, instance: Wanted) -> list[Object]:
    memory = {"medium": "Memory", "sizeLimit": f"{instance.release.resources.scratch_mb}Mi"}
    volumes: list[Object] = [{"name": "scratch", "emptyDir": memory}]
    if place.claim:
        volumes.append({"name": "node", "persistentVolumeClaim": {"claimName": place.claim}})
    else:
        volumes.append({"name": "run", "hostPath": {"path": str(place.runs / instance.name), "type": "Directory"}})
        if _keeps(instance):
            volumes.append({"name": "kept", "hostPath": {"path": str(place.kept / instance.name), "type": "Directory"}})
    if instance.secrets and place.secrets is not None:
        # After a power cut the folder is made anew, empty, until the agent has opened them again.
        path = {"path": str(place.secrets / instance.name), "type": "DirectoryOrCreate"}
        volumes.append({"name": "secrets", "hostPath": path})
    if instance.release.workload_class is WorkloadClass.CONTROL:
        volumes.append({"name": "shared", "emptyDir": memory})
    return volumes


def _keeps(instance: Wanted) -> bool:
    return instance.release.keeps or instance.release.workload_class is WorkloadClass.CONTROL


def service(place: Place, instance: Wanted) -> Object | None:
    """Under the instance's own name, where it offers something; None where it does not."""
    if not instance.release.provides:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": instance.name,
            "namespace": place.namespace,
            "labels": place.labels(instance.name) | {"app.kubernetes.io/managed-by": MANAGER},
        },
        "spec": {
            "type": "ClusterIP",
            "selector": place.labels(instance.name),
            "ports": [
                {"name": f"p{one.port}", "port": one.port, "targetPort": one.port, "protocol": "TCP"}
                for one in instance.release.provides
            ],
        },
    }


def network_policy(place: Place, instance: Wanted) -> Object:
    """Nothing in and nothing out but what the release declares: in to what it provides, from pods of that segment; out
    by its conduits, to pods of the segment and to the addresses that agent.yaml gives it."""
    release = instance.release
    incoming = [
        {
            "from": [{"podSelector": {"matchLabels": {LABEL + "site": place.site, SEGMENT + one.segment: "attached"}}}],
            "ports": [{"port": one.port, "protocol": "TCP"}],
        }
        for one in release.provides
    ]
    outgoing = [_way_out(place, conduit) for conduit in release.conduits if conduit.ports]
    if outgoing:
        outgoing.append(
            {
                "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
                "ports": [{"port": _DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")],
            }
        )
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": place.object_name(instance.name),
            "namespace": place.namespace,
            "labels": place.labels(instance.name) | {"app.kubernetes.io/managed-by": MANAGER},
        },
        "spec": {
            "podSelector": {"matchLabels": place.labels(instance.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": incoming,
            "egress": outgoing,
        },
    }


def _way_out(place: Place, conduit: Conduit) -> Object:
    neighbours = {"matchLabels": {LABEL + "site": place.site, SEGMENT + conduit.segment: "attached"}}
    to: list[Object] = [{"podSelector": neighbours}]
    if conduit.segment in place.networks:
        to.append({"ipBlock": {"cidr": place.networks[conduit.segment]}})
    return {"to": to, "ports": [{"port": port, "protocol": conduit.protocol.upper()} for port in conduit.ports]}
