"""What a cluster refuses, and a kubeconfig that leads nowhere: each is a clear error of the family it belongs to."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from agent.runtimes.base import Phase, Wanted
from agent.runtimes.containers import container_platform
from agent.runtimes.kubernetes.client import Cluster
from agent.runtimes.kubernetes.runtime import KubernetesRuntime
from manifests.errors import MachineError, UnreachableError
from tests.support import tiny_worker
from tests.support.cluster import ClusterNamespace, kubectl, load_image

pytestmark = [pytest.mark.kubernetes, pytest.mark.engine]


class Space:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.namespace = ClusterNamespace(folder, f"t{secrets.token_hex(3)}")
        self.runtime = self.namespace.runtime(folder)
        self.artifact = tiny_worker.container_artifact(folder, container_platform())
        self.runtime.pull(self.artifact, partial(tiny_worker.blob_path, folder))
        for archive in (folder / "images").glob("*.tar"):
            load_image(archive)

    def make(self, name: str = "work") -> Wanted:
        return tiny_worker.make(self.artifact, name, site=self.namespace.site)

    def start(self, name: str = "work") -> str:
        instance = self.make(name)
        return self.runtime.start(instance, tiny_worker.write_context(self.folder, instance))


@pytest.fixture
def space(folder: Path) -> Iterator[Space]:
    made = Space(folder)
    yield made
    made.runtime.close()
    kubectl("delete", "deployments", "--all", "-n", made.namespace.name, check=False)
    made.namespace.close()


def with_kubeconfig(space: Space, folder: Path, change: dict[str, object]) -> KubernetesRuntime:
    said = yaml.safe_load(space.namespace.kubeconfig.read_text())
    said["clusters"][0]["cluster"] |= change.get("cluster", {})
    said["users"][0]["user"] |= change.get("user", {})
    path = folder / "other"
    path.write_text(yaml.safe_dump(said))
    other = space.namespace.runtime(folder)
    return KubernetesRuntime(folder, Cluster(path), other._place)


def test_a_foreign_token_a_foreign_authority_and_a_dead_address_are_told_apart(space: Space, folder: Path) -> None:
    stranger = with_kubeconfig(space, folder, {"user": {"token": "nobody"}})
    with pytest.raises(MachineError, match="does not know this agent"):
        stranger.observe([])
    nowhere = with_kubeconfig(space, folder, {"cluster": {"server": "https://127.0.0.1:9"}})
    with pytest.raises(UnreachableError, match="workloads run on"):
        nowhere.observe([])
    assert "does not answer" in nowhere.description
    said = yaml.safe_load(space.namespace.kubeconfig.read_text())["clusters"][0]["cluster"]
    if said["server"].startswith("https://127.0.0.1"):
        untrusted = with_kubeconfig(space, folder, {"cluster": {"certificate-authority-data": ""}})
        with pytest.raises(MachineError, match="not trusted"):
            untrusted.observe([])


def test_a_missing_permission_is_named_with_its_remedy(space: Space) -> None:
    space.runtime.observe([])
    role = "sluice-agent"
    without = '[{"op": "remove", "path": "/rules/0"}]'
    kubectl("patch", "role", role, "-n", space.namespace.name, "--type=json", "-p", without)
    time.sleep(1)  # the API server learns of it a moment later, and says nothing when it has
    with pytest.raises(MachineError, match=r"forbidden: .*deployments.*manifests/kubernetes/agent"):
        space.start()


def test_the_shipped_role_reads_no_secrets_and_gives_no_rights_away(space: Space) -> None:
    account = f"system:serviceaccount:{space.namespace.name}:sluice-agent"
    for asked in (
        ("get", "secrets"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("create", "rolebindings"),
        ("get", "nodes"),
        ("delete", "namespaces"),
    ):
        answer = kubectl("auth", "can-i", *asked, "-n", space.namespace.name, "--as", account, check=False)
        assert answer.strip() == "no", asked
    outside = kubectl("auth", "can-i", "list", "deployments", "-n", "default", "--as", account, check=False)
    assert outside.strip() == "no"


def test_an_object_that_somebody_else_made_is_left_alone(space: Space) -> None:
    kubectl("create", "service", "clusterip", "work", "--tcp=80:80", "-n", space.namespace.name)
    before = space.namespace.get("service", "work")["spec"]
    with pytest.raises(MachineError, match="did not make"):
        space.start()
    assert space.namespace.get("service", "work")["spec"] == before


def test_a_quota_that_forbids_the_pod_is_said(space: Space) -> None:
    kubectl("create", "quota", "small", "--hard=memory=16Mi", "-n", space.namespace.name)
    with pytest.raises(MachineError, match="quota"):
        space.start()
    found = space.runtime.observe([]).instances["work"]
    assert (found.phase, found.reason) == (Phase.RESTARTING, "PodRefused")
    kubectl("delete", "quota", "small", "-n", space.namespace.name)


def test_what_lost_its_instance_is_cleared_away(space: Space) -> None:
    space.start()
    kubectl("delete", "deployment", "work.edge", "-n", space.namespace.name)
    space.namespace.until(lambda: not space.runtime.observe([]).instances, "it is still seen")
    space.runtime.forget_except([], [])
    for kind in ("networkpolicies", "services"):
        assert space.namespace.get(kind)["items"] == []
