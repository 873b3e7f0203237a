"""What the cluster is told: least privilege, no second life, nothing in or out that was not signed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest
from msgspec import structs

from agent.runtimes.base import Wanted, wanted
from agent.runtimes.kubernetes.objects import Place, deployment, lacks, network_policy, service
from manifests.model import (
    OCI_MANIFEST,
    Artifact,
    Blob,
    Conduit,
    Control,
    DesiredInstance,
    PlacedInstance,
    Resources,
    SealedSecret,
    Service,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
)

CONFIG = "sha256:" + "c" * 64
ROOT = "sha256:" + "a" * 64
PLACE = Place(
    site="hamburg",
    node="edge1",
    namespace="sluice-hamburg",
    runs=PurePosixPath("/var/lib/sluice/run"),
    kept=PurePosixPath("/var/lib/sluice/kept"),
    networks={"ot": "10.20.0.0/16"},
)
ARTIFACT = Artifact(
    platform="linux/amd64",
    media_type=OCI_MANIFEST,
    root=Blob(digest=ROOT, size=1),
    blobs=(Blob(digest=CONFIG, size=1),),
)


def instance(**release: Any) -> Wanted:
    fields: dict[str, Any] = {
        "conduits": (Conduit(segment="ot", ports=(502,)), Conduit(segment="site")),
        "provides": (Service(name="mqtt", segment="site", port=1883),),
        "resources": Resources(memory_mb=64, cpus=0.25, scratch_mb=4),
        **release,
    }
    made = WorkloadRelease(
        name="modbus",
        version="1.0.0",
        workload_class=fields.pop("workload_class", WorkloadClass.TRANSLATOR),
        artifacts=(ARTIFACT,),
        **fields,
    )
    placed = PlacedInstance(
        instance=DesiredInstance(name="pump", node="edge1", config={}),
        release=made,
        release_digest="sha256:" + "1" * 64,
    )
    return wanted(SiteFacts(site="hamburg", enterprise="acme", generation=7), placed, "linux/amd64")


def of_control() -> Wanted:
    control = Control(period_ms=10, jitter_p999_us=500, watchdog_ms=50, max_stop_ms=5000)
    return replace(instance(workload_class=WorkloadClass.CONTROL, control=control), core=1)


def pod(place: Place = PLACE, wanted: Wanted | None = None) -> dict[str, Any]:
    made: dict[str, Any] = deployment(place, wanted or instance(), CONFIG)["spec"]["template"]["spec"]
    return made


def test_a_pod_keeps_the_rules_of_pod_security_restricted() -> None:
    spec = pod(replace(PLACE, claim="sluice"))
    (container,) = spec["containers"]
    security = spec["securityContext"] | container["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] == 10001
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["hostNetwork"]
    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} == {
        "emptyDir",
        "persistentVolumeClaim",
    }


def test_nothing_of_the_cluster_reaches_a_pod() -> None:
    spec = pod()
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    run = next(mount for mount in spec["containers"][0]["volumeMounts"] if mount["mountPath"] == "/run/sluice")
    assert run["readOnly"]


def test_every_pod_has_the_quality_of_service_guaranteed() -> None:
    resources = pod()["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"] == {"memory": "64Mi", "cpu": "250m"}


def test_there_are_never_two_lives_at_once() -> None:
    spec = deployment(PLACE, instance(), CONFIG)["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_no_probe_restarts_a_workload_and_a_service_waits_for_its_port() -> None:
    (container,) = pod()["containers"]
    assert "livenessProbe" not in container
    assert container["readinessProbe"]["tcpSocket"] == {"port": 1883}
    assert "readinessProbe" not in pod(wanted=instance(provides=()))["containers"][0]


def test_a_silent_node_does_not_lose_its_pods() -> None:
    assert [(one["key"], one.get("tolerationSeconds")) for one in pod()["tolerations"]] == [
        ("node.kubernetes.io/not-ready", None),
        ("node.kubernetes.io/unreachable", None),
    ]


def test_an_image_is_the_signed_one_from_the_node_or_from_a_registry() -> None:
    (container,) = pod()["containers"]
    assert (container["image"], container["imagePullPolicy"]) == (CONFIG, "Never")
    (container,) = pod(replace(PLACE, registry="10.0.0.1:5000/sluice/"))["containers"]
    assert (container["image"], container["imagePullPolicy"]) == (f"10.0.0.1:5000/sluice/modbus@{ROOT}", "IfNotPresent")


def test_class_control_gets_what_real_time_needs_and_nothing_else() -> None:
    made = deployment(PLACE, of_control(), CONFIG, note="no real-time share")
    spec = made["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["SYS_NICE", "IPC_LOCK", "SETUID", "SETGID", "SETPCAP"]}
    assert not security["privileged"]
    assert not security["allowPrivilegeEscalation"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {
        "/run/sluice",
        "/tmp",
        "/run/shared",
        "/run/kept",
    }
    shared = next(volume for volume in spec["volumes"] if volume["name"] == "shared")
    assert shared["emptyDir"]["medium"] == "Memory"
    assert made["metadata"]["annotations"]["sluice.core"] == "1"
    assert made["metadata"]["annotations"]["sluice.note"] == "no real-time share"


def test_what_a_cluster_cannot_give_is_said() -> None:
    reading = instance(conduits=(Conduit(segment="ot", ports=(502,), inspect="modbus-read"),))
    assert "NOT narrowed" in lacks(reading, groups=True)
    assert "real-time" in lacks(of_control(), groups=True)
    assert lacks(of_control(), groups=False) == lacks(instance(), groups=True) == ""


def test_folders_lie_on_the_node_or_in_a_claim() -> None:
    keeping = instance(keeps=True)
    by_path = {one["name"]: one["hostPath"]["path"] for one in pod(wanted=keeping)["volumes"] if "hostPath" in one}
    assert by_path == {"run": "/var/lib/sluice/run/pump", "kept": "/var/lib/sluice/kept/pump"}
    claimed = pod(replace(PLACE, claim="sluice"), keeping)
    mounts = {m["mountPath"]: m["subPath"] for m in claimed["containers"][0]["volumeMounts"] if "subPath" in m}
    assert mounts == {"/run/sluice": "run/pump", "/run/kept": "kept/pump"}


def test_secrets_come_from_the_machines_memory_and_never_through_the_clusters_database() -> None:
    sealed = replace(instance(), secrets=(SealedSecret(name="password", version=1, recipient="r", sealed="x"),))
    spec = pod(replace(PLACE, secrets=PurePosixPath("/run/sluice-1/secrets")), sealed)
    (mount,) = [one for one in spec["containers"][0]["volumeMounts"] if one["mountPath"] == "/run/secrets"]
    assert mount["readOnly"]
    (volume,) = [one for one in spec["volumes"] if one["name"] == mount["name"]]
    assert volume["hostPath"]["path"] == "/run/sluice-1/secrets/pump"


def test_a_policy_lets_through_what_the_release_declares() -> None:
    spec = network_policy(PLACE, instance())["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    (incoming,) = spec["ingress"]
    assert incoming["ports"] == [{"port": 1883, "protocol": "TCP"}]
    neighbours = {"sluice.site": "hamburg", "sluice.segment/site": "attached"}
    assert incoming["from"] == [{"podSelector": {"matchLabels": neighbours}}]
    field, names = spec["egress"]
    assert field["ports"] == [{"port": 502, "protocol": "TCP"}]
    assert {"ipBlock": {"cidr": "10.20.0.0/16"}} in field["to"]
    assert {port["port"] for port in names["ports"]} == {53}


def test_a_release_that_declares_nothing_is_alone() -> None:
    spec = network_policy(PLACE, instance(conduits=(), provides=()))["spec"]
    assert (spec["ingress"], spec["egress"]) == ([], [])
    assert service(PLACE, instance(provides=())) is None


def test_two_instances_of_a_site_never_share_a_name() -> None:
    first = replace(PLACE, node="edge").object_name("one-x")
    assert first != replace(PLACE, node="edge-one").object_name("x")
    assert replace(PLACE, node="a").object_name("b-a") != replace(PLACE, node="b-a").object_name("a")


def test_a_service_is_found_by_the_instances_name() -> None:
    made = service(PLACE, instance())
    assert made is not None
    assert made["metadata"]["name"] == "pump"
    assert made["spec"]["selector"] == {"sluice.site": "hamburg", "sluice.node": "edge1", "sluice.instance": "pump"}


@pytest.mark.parametrize("change", [{"machine": "worker-2"}, {"host_network": True}])
def test_local_settings_reach_the_pod(change: dict[str, Any]) -> None:
    spec = pod(replace(PLACE, **change))
    assert spec["hostNetwork"] is change.get("host_network", False)
    assert spec.get("nodeSelector", {}) == ({"kubernetes.io/hostname": "worker-2"} if "machine" in change else {})


def test_digests_and_generation_can_be_read_back() -> None:
    notes = deployment(PLACE, instance(), CONFIG)["metadata"]["annotations"]
    assert notes["sluice.release-digest"] == "sha256:" + "1" * 64
    assert notes["sluice.generation"] == "7"
    assert notes["sluice.root"] == ROOT
    other = structs.replace(instance().release, version="2.0.0")
    assert deployment(PLACE, replace(instance(), release=other), CONFIG)["metadata"]["annotations"]["sluice.version"]
