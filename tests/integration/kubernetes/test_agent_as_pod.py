"""The shipped manifests bring an agent up as a pod: it enrols once, runs a translator through the volume they share,
and its own end disturbs nobody.

The volume is the shipped one of a node's folder. A cluster without a network for pods gets what it needs on top: the
machine's own network, and a kubeconfig instead of the address that only such a network reaches.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.messages import FrameKind
from manifests.model import Artifact, Conduit, DataStream, Health, Resources, WorkloadClass, WorkloadRelease
from tests.simulators.launch import started
from tests.support.cluster import ROOT, ClusterNamespace, kubectl, load_image, saved_image
from tests.support.orchestrator_fake import OrchestratorFake

pytestmark = [pytest.mark.kubernetes, pytest.mark.engine]
IMAGE = "sluice/agent-kubernetes:0.1.0"  # as the shipped manifests name it
USER = 10001


class Pod:
    """One agent as a pod; ``node`` is the folder that stands for ``/var/lib/sluice``."""

    def __init__(self, folder: Path, far: OrchestratorFake) -> None:
        self.far = far
        self.site = f"t{secrets.token_hex(3)}"
        self.space = ClusterNamespace(folder, self.site)
        self.node = Path("/var/lib") / f"sluice-{self.site}"
        self.node.mkdir()
        shutil.chown(self.node, USER, USER)
        self.overlay = ROOT / "build" / f"overlay-{self.site}"  # kustomize reads no absolute paths
        self.overlay.mkdir(parents=True)
        (self.overlay / "kustomization.yaml").write_text(yaml.safe_dump(self._kustomization()))
        files = ["--from-file=config=" + str(self.space.kubeconfig)]
        kubectl("create", "secret", "generic", "kubeconfig", "-n", self.space.name, *files)

    def _kustomization(self) -> dict[str, Any]:
        settings = {
            "state": "/var/lib/sluice/state",
            "pollS": 0.5,
            "syncWaitS": 0,
            "reportS": 1,
            "runtime": {
                "kind": "kubernetes",
                "namespace": self.space.name,
                "runFolder": "/var/lib/sluice/run",
                "claim": "sluice",
            },
        }
        agent: list[dict[str, Any]] = []
        if self.space.host_network:
            settings["runtime"] |= {"hostNetwork": True, "kubeconfig": "/etc/kube/config"}  # type: ignore[operator]  # a dict
            at = "/spec/template/spec"
            agent = [
                {"op": "add", "path": f"{at}/hostNetwork", "value": True},
                {
                    "op": "add",
                    "path": f"{at}/volumes/-",
                    "value": {"name": "kube", "secret": {"secretName": "kubeconfig"}},
                },
                {
                    "op": "add",
                    "path": f"{at}/containers/0/volumeMounts/-",
                    "value": {"name": "kube", "mountPath": "/etc/kube", "readOnly": True},
                },
            ]
        names = [{"op": "replace", "path": "/metadata/name", "value": self.space.name}]
        said = [{"op": "replace", "path": "/data/agent.yaml", "value": yaml.safe_dump(settings)}]
        claim = [
            {"op": "replace", "path": "/spec/volumeName", "value": self.site},
            {"op": "replace", "path": "/spec/storageClassName", "value": self.site},
        ]
        volume = [
            {"op": "replace", "path": "/metadata/name", "value": self.site},
            {"op": "replace", "path": "/spec/storageClassName", "value": self.site},
            {"op": "replace", "path": "/spec/hostPath/path", "value": str(self.node)},
        ]
        patches = {
            "Namespace": names,
            "ConfigMap": said,
            "PersistentVolumeClaim": claim,
            "PersistentVolume": volume,
            "Deployment": agent,
        }
        return {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.space.name,
            "resources": ["../../manifests/kubernetes/node-folder"],
            "patches": [
                {"target": {"kind": kind}, "patch": json.dumps(patch)} for kind, patch in patches.items() if patch
            ],
        }

    def install(self) -> None:
        """The two commands of the documentation, in their order."""
        kubectl("apply", "-k", str(self.overlay))
        token = self.far.token(self.site, "edge-1")
        kubectl("create", "secret", "generic", "sluice-token", "-n", self.space.name, f"--from-literal=token={token}")

    def arrived(self) -> list[int]:
        numbers = []
        for (site, name, _), frames in list(self.far.frames.items()):
            if (site, name) == (self.site, "pump/tags"):
                assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
                assert all(frame.kind is not FrameKind.GAP for frame in frames)
                numbers += [frame.seq for frame in frames]
        return numbers

    def close(self) -> None:
        kubectl("delete", "deployments,pods", "--all", "-n", self.space.name, "--grace-period=1", check=False)
        self.space.close()
        kubectl("delete", "persistentvolume", self.site, "--wait=false", check=False)
        shutil.rmtree(self.overlay, ignore_errors=True)
        shutil.rmtree(self.node, ignore_errors=True)


@pytest.fixture
def pod(folder: Path) -> Iterator[Pod]:
    load_image(saved_image("agent-kubernetes", folder, under=IMAGE))
    with OrchestratorFake(folder / "far") as far:
        made = Pod(folder, far)
        try:
            yield made
        finally:
            made.close()


def test_an_agent_in_a_pod_enrols_once_and_its_workload_outlives_it(
    pod: Pod, translator: tuple[Artifact, Path]
) -> None:
    artifact, blobs = translator
    for path in blobs.rglob("*"):
        if path.is_file():
            pod.far.add_blob(path.read_bytes())
    with started("pump_skid") as pump:
        release = pod.far.publish(
            WorkloadRelease(
                name="modbus",
                version="1.0.0",
                workload_class=WorkloadClass.TRANSLATOR,
                artifacts=(artifact,),
                health=Health(startup_grace_s=60, heartbeat_timeout_s=15),
                streams=(DataStream(name="tags"),),
                conduits=(Conduit(segment="ot", ports=(pump.port,)),),
                resources=Resources(memory_mb=128, cpus=0.2, scratch_mb=4),
            )
        )
        tags = [{"name": "sample_counter", "area": "input", "address": 0, "type": "uint32"}]
        device = {
            "name": "pump",
            "host": "127.0.0.1",
            "port": pump.port,
            "unit": 1,
            "place": {"area": "utilities", "line": "cooling", "asset": "pump1"},
            "groups": [{"name": "process", "intervalMs": 100, "tags": tags}],
        }
        config = {"live": None, "devices": [device], "block": {"periodMs": 200}}
        pod.far.assign(pod.site, [pod.far.placed("pump", release, config=config)], generation=1)
        pod.install()
        pod.space.until(lambda: len(pod.arrived()) > 5, "no data arrives", 120)
        life = pod.space.pods("pump")[0]["status"]["containerStatuses"][0]["containerID"]
        kubectl("delete", "secret", "sluice-token", "-n", pod.space.name)
        kubectl("delete", "pod", "-l", "app.kubernetes.io/name=sluice-agent", "-n", pod.space.name, "--grace-period=1")
        before = len(pod.arrived())
        pod.space.until(lambda: len(pod.arrived()) > before + 10, "data stopped with the agent's pod", 120)
        assert pod.space.pods("pump")[0]["status"]["containerStatuses"][0]["containerID"] == life
